#include "agent/scenario_keys.h"

#include <cyaml/cyaml.h>

#include "agent/scenario.h"
#include "traces/throughput/throughput.h"

// ---- the words of choices

static const cyaml_strval_t tasks[] = {{"abr", 0}, {"null", 1}};
static const cyaml_strval_t formats[] = {
    {"auto", M4N_TRACE_AUTO},   {"cooked", M4N_TRACE_COOKED}, {"mahimahi", M4N_TRACE_MAHIMAHI},
    {"sabre", M4N_TRACE_SABRE}, {"nyu", M4N_TRACE_NYU},       {"oboe", M4N_TRACE_OBOE},
    {"ucc", M4N_TRACE_UCC}};
static const cyaml_strval_t starts[] = {
    {"fixed", M4N_START_FIXED}, {"seeded", M4N_START_SEEDED}, {"listed", M4N_START_LISTED}};
static const cyaml_strval_t qoes[] = {{"linear", M4N_QOE_LINEAR}, {"log", M4N_QOE_LOG}, {"hd", M4N_QOE_HD}};
static const cyaml_strval_t sets[] = {
    {"test", M4N_SET_TEST}, {"train", M4N_SET_TRAIN}, {"valid", M4N_SET_VALID}};
static const cyaml_strval_t delays[] = {
    {"zero", M4N_DELAY_ZERO}, {"fixed", M4N_DELAY_FIXED}, {"measured", M4N_DELAY_MEASURED}};
static const cyaml_strval_t switches[] = {{"no", 0}, {"yes", 1}};
static const cyaml_strval_t contexts[] = {{"window", 0}, {"stream", 1}, {"reset", 2}};
static const cyaml_strval_t weights[] = {{"stored", 0}, {"f32", 1}, {"bf16", 2}, {"int8", 3}};
static const cyaml_strval_t schedules[] = {{"cosine", M4N_LR_COSINE}, {"constant", M4N_LR_CONSTANT}};
static const cyaml_strval_t weightings[] = {{"none", M4N_WEIGHT_NONE}, {"advantage", M4N_WEIGHT_ADVANTAGE}};
static const cyaml_strval_t labellers[] = {{"teacher", M4N_LABEL_TEACHER},
                                           {"expert", M4N_LABEL_EXPERT},
                                           {"oracle", M4N_LABEL_ORACLE},
                                           {"none", M4N_LABEL_NONE}};
static const cyaml_strval_t presets[] = {{"mini", 0}, {"base", 1}, {"tiny", 2}, {"small", 3}, {"paper", 4}};
static const cyaml_strval_t reuses[] = {{"slice", 0},    {"head", 1},   {"pca", 2},
                                        {"spectrum", 3}, {"random", 4}, {"none", 5}};
static const cyaml_strval_t divergences[] = {
    {"forward", M4N_DISTIL_FORWARD}, {"reverse", M4N_DISTIL_REVERSE}, {"jsd", M4N_DISTIL_JSD}};
static const cyaml_strval_t references[] = {{"labeller", M4N_REFERENCE_LABELLER},
                                            {"student", M4N_REFERENCE_STUDENT}};
static const cyaml_strval_t modes[] = {{"async", 0}, {"lockstep", 1}};

// ---- the table

#define AT(member) .offset = offsetof(m4n_scenario, member), .size = sizeof(((m4n_scenario *)0)->member)
#define LIST(member, count, from, to)                                                                        \
  .offset = offsetof(m4n_scenario, member), .size = sizeof(((m4n_scenario *)0)->member),                     \
  .count_offset = offsetof(m4n_scenario, count), .least = (from), .most = (to)
#define CHOICE(list)                                                                                         \
  .type = M4N_KEY_CHOICE, .choice = (list), .n_choices = (int)(sizeof(list) / sizeof *(list))
#define TRACES(name, index)                                                                                  \
  {"abr." name ".traces",                                                                                    \
   M4N_KEY_PATHS,                                                                                            \
   "none",                                                                                                   \
   "folder (or file) of throughput traces, or a list of them",                                               \
   .word = "none",                                                                                           \
   LIST(abr.set[index].paths, abr.set[index].n_paths, 1, 64)},                                               \
      {"abr." name ".format", .usual = "auto", .meaning = "how the traces are written; auto: by content",    \
       CHOICE(formats), AT(abr.set[index].format)},                                                          \
      {"abr." name ".start", .usual = "fixed",                                                               \
       .meaning = "where an episode begins: fixed: at the trace's start; seeded: trace and place drawn; "    \
                  "listed: from pointers",                                                                   \
       CHOICE(starts), AT(abr.set[index].start)},                                                            \
      {"abr." name ".pointers",                                                                              \
       M4N_KEY_PATH,                                                                                         \
       "none",                                                                                               \
       "file of row numbers, one a trace, for start: listed",                                                \
       .word = "none",                                                                                       \
       AT(abr.set[index].pointers)},                                                                         \
      {"abr." name ".scale",                                                                                 \
       M4N_KEY_NUMBERS,                                                                                      \
       "[]",                                                                                                 \
       "for start: seeded: [low, high]; rates are multiplied by a draw from there",                          \
       0.01,                                                                                                 \
       100,                                                                                                  \
       LIST(abr.set[index].scale, n_scale[index], 2, 2)},                                                    \
  {                                                                                                          \
    "abr." name ".noise", M4N_KEY_NUMBER, "0",                                                               \
        "download times are multiplied by a draw from 1-noise to 1+noise", 0, 0.99, AT(abr.set[index].noise) \
  }

// What a model is asked to be when it decides.
#define DECIDES(name, member)                                                                                \
  {name ".context", .usual = "window",                                                                       \
   .meaning =                                                                                                \
       "what of the past it sees when it decides: the last steps run again (as in training), a state "       \
       "carried on, or that begun anew every window",                                                        \
   CHOICE(contexts), AT(member.context)},                                                                    \
      {name ".weights", .usual = "stored", .meaning = "how its weights are kept when it decides",            \
       CHOICE(weights), AT(member.weights)},                                                                 \
  {                                                                                                          \
    name ".target", M4N_KEY_NUMBER, "1", "asks for so much of the best return that it was trained on", 0.01, \
        100, AT(member.target)                                                                               \
  }
#define FIT(name, member)                                                                                    \
  {name ".steps", M4N_KEY_INT, "1000", "steps of the optimiser", 1, 1e9, AT(member.steps)},                  \
      FIT_AT(name, member, "3e-4")
#define FIT_AT(name, member, rate)                                                                            \
  {name ".batch", M4N_KEY_INT, "32", "windows of a step", 1, 4096, AT(member.batch)},                         \
      {name ".lr", M4N_KEY_NUMBER, rate, "learning rate", 1e-9, 1, AT(member.lr)},                            \
      {name ".schedule", .usual = "cosine", .meaning = "of the learning rate, behind the warm-up",            \
       CHOICE(schedules), AT(member.schedule)},                                                               \
      {name ".warmup",   M4N_KEY_NUMBER, "0.03", "share of the steps in which it rises from 0", 0, 1,         \
       AT(member.warmup)},                                                                                    \
      {name ".floor",   M4N_KEY_NUMBER, "0.1", "for schedule: cosine: share of lr at its end", 0, 1,          \
       AT(member.floor)},                                                                                     \
      {name ".beta1", M4N_KEY_NUMBER, "0.9", "AdamW's, of the mean", 0, 0.9999, AT(member.beta1)},            \
      {name ".beta2", M4N_KEY_NUMBER, "0.95", "AdamW's, of the square", 0, 0.99999, AT(member.beta2)},        \
      {name ".decay", M4N_KEY_NUMBER, "0.01", "weight decay, of matrices", 0, 1, AT(member.decay)},           \
      {name ".clip", M4N_KEY_NUMBER, "1", "largest norm of a step's gradient", 1e-6, 1e9, AT(member.clip)},   \
      {name ".ema",                                                                                           \
       M4N_KEY_NUMBER,                                                                                        \
       "0.999",                                                                                               \
       "decay of the averaged weights, which are kept; 0: no average",                                        \
       0,                                                                                                     \
       0.999999,                                                                                              \
       AT(member.ema)},                                                                                       \
      {name ".log_every",   M4N_KEY_INT, "10", "steps between lines of train.csv", 1, 1e9,                    \
       AT(member.log_every)},                                                                                 \
      {name ".save_every",   M4N_KEY_INT, "200", "steps between checkpoints to go on from", 1, 1e9,           \
       AT(member.save_every)},                                                                                \
      {name ".valid_every", M4N_KEY_INT, "200", "steps between validations", 1, 1e9, AT(member.valid_every)}, \
      {name ".valid_episodes",                                                                                \
       M4N_KEY_INT,                                                                                           \
       "0",                                                                                                   \
       "episodes of abr.valid that each plays, the best model being kept; 0: none, the last one is kept",     \
       0,                                                                                                     \
       1e6,                                                                                                   \
       AT(member.valid_episodes)},                                                                            \
  {                                                                                                           \
    name ".patience", M4N_KEY_INT, "10", "stops after so many validations without a better one; 0: never",    \
        0, 1e6, AT(member.patience)                                                                           \
  }

const m4n_key m4n_keys[] = {
    {"name", M4N_KEY_NAME, NULL, "what the experiment is called; names the run's folder", AT(name)},
    {"task", .meaning = "the simulated world", CHOICE(tasks), AT(task)},
    {"seed", M4N_KEY_SEED, "1", "names every random stream of the run", AT(seed)},

    TRACES("test", M4N_SET_TEST),
    TRACES("train", M4N_SET_TRAIN),
    TRACES("valid", M4N_SET_VALID),
    {"abr.video.sizes", M4N_KEY_PATH, "none", "folder of video_size_N files, or a Sabre JSON file",
     .word = "none", AT(abr.video)},
    {"abr.video.chunks", M4N_KEY_INT, "all", "chunks to play; all: every one but the last", 2, 65535,
     .word = "all", .number = "0", AT(abr.chunks)},
    {"abr.video.chunk_s", M4N_KEY_NUMBER, "video", "seconds a chunk plays; video: what its files say, else 4",
     0.1, 60, .word = "video", .number = "0", AT(abr.chunk_s)},
    {"abr.video.ladder", M4N_KEY_NUMBERS, "[]",
     "kbit/s of every level; []: what the video says, else Pensieve's six", 1, 1e7,
     LIST(abr.ladder, abr.levels, 1, M4N_ABR_MAX_LEVELS)},
    {"abr.qoe.kind", .usual = "linear",
     .meaning = "what a chunk is worth: its Mbit/s, their logarithm, or HD's table", CHOICE(qoes),
     AT(abr.qoe)},
    {"abr.qoe.rebuffer", M4N_KEY_NUMBER, "usual",
     "cost of a second of rebuffering; usual: 4.3, log 2.66, hd 8", 0, 1e6, .word = "usual", .number = "-1",
     AT(abr.rebuffer)},
    {"abr.qoe.smooth", M4N_KEY_NUMBER, "usual",
     "cost of a change of level, in units of what a chunk is worth; usual: 1", 0, 1e6, .word = "usual",
     .number = "-1", AT(abr.smooth)},
    {"abr.qoe.utility", M4N_KEY_NUMBERS, "[]", "for hd: what each level is worth; []: 1, 2, 3, 12, 15, 20",
     -1e6, 1e6, LIST(abr.utility, abr.levels_hd, 1, M4N_ABR_MAX_LEVELS)},
    {"abr.rtt_ms", M4N_KEY_NUMBER, "80",
     "round trip before every download; trace: what the trace's file states, else 80", 0, 1e5,
     .word = "trace", .number = "-1", AT(abr.rtt_ms)},
    {"abr.buffer_cap_s", M4N_KEY_NUMBER, "60", "buffer beyond which the client waits", 1, 3600,
     AT(abr.buffer_cap_s)},
    {"abr.drain_ms", M4N_KEY_NUMBER, "500", "what it then waits at a time", 1, 60000, AT(abr.drain_ms)},
    {"abr.payload", M4N_KEY_NUMBER, "0.95", "share of a packet that is video", 0.01, 1, AT(abr.payload)},
    {"abr.first_level", M4N_KEY_INT, "0", "level of the forced first chunk", 0, M4N_ABR_MAX_LEVELS - 1,
     AT(abr.first_level)},

    {"teacher.preset", .usual = "mini", .meaning = "shape of a teacher that is trained here", CHOICE(presets),
     AT(teacher.preset)},
    {"teacher.base", M4N_KEY_PATH, "none",
     "what its training begins with: a checkpoint of ours, or a Hugging Face folder; none: the preset, from "
     "the seed",
     .word = "none", AT(teacher.base)},
    {"teacher.checkpoint", M4N_KEY_PATH, "trained",
     "a teacher that is done, and is not trained; trained: the one that adapt makes", .word = "trained",
     AT(teacher.checkpoint)},
    DECIDES("teacher", teacher),
    {"teacher.lora.rank", M4N_KEY_INT, "0", "trains adapters of this rank alone; 0: everything", 0, 4096,
     AT(teacher.lora.rank)},
    {"teacher.lora.alpha", M4N_KEY_NUMBER, "32", "an adapter counts alpha/rank times", 1e-3, 1e5,
     AT(teacher.lora.alpha)},
    {"teacher.lora.dropout", M4N_KEY_NUMBER, "0.05", "of an adapter's input", 0, 0.99,
     AT(teacher.lora.dropout)},
    {"teacher.lora.targets", M4N_KEY_TEXTS, "[q_proj, v_proj]", "matrices that have one",
     LIST(teacher.lora.targets, teacher.lora.n_targets, 1, 16)},

    {"student.preset", .usual = "small", .meaning = "shape of the student", CHOICE(presets),
     AT(student.preset)},
    {"student.mamba_layers", M4N_KEY_INT, "preset", "its Mamba blocks", 0, 256, .word = "preset",
     .number = "-1", AT(student.mamba_layers)},
    {"student.attention_layers", M4N_KEY_INT, "preset", "its attention blocks, behind them", 0, 256,
     .word = "preset", .number = "-1", AT(student.attention_layers)},
    {"student.checkpoint", M4N_KEY_PATH, "trained",
     "a student that is done, for run, serve and collect; trained: the one that distil makes",
     .word = "trained", AT(student.checkpoint)},
    DECIDES("student", student),

    {"expert.checkpoint", M4N_KEY_PATH, "trained",
     "an expert that is done, and is not trained; trained: the one that the stage makes", .word = "trained",
     AT(expert.checkpoint)},
    {"expert.steps", M4N_KEY_INT, "0", "decisions that it is trained on; 0: there is no expert", 0, 1e13,
     AT(expert.ppo.steps)},
    {"expert.guide", M4N_KEY_POLICY, "robust-mpc",
     "a policy that it imitates first; none: it begins with nothing", .word = "none", AT(expert.ppo.guide)},
    {"expert.guide_steps", M4N_KEY_INT, "2000000", "decisions of that", 0, 1e13, AT(expert.ppo.guide_steps)},
    {"expert.save_every", M4N_KEY_INT, "50", "updates between states to go on from", 1, 1e9,
     AT(expert.ppo.save_every)},
    {"expert.lanes", M4N_KEY_INT, "1024", "episodes played at once", 1, M4N_MAX_LANES, AT(expert.ppo.lanes)},
    {"expert.horizon", M4N_KEY_INT, "47", "decisions of a lane between updates", 1, 65536,
     AT(expert.ppo.horizon)},
    {"expert.width", M4N_KEY_INT, "128", "units of a layer", 1, 4096, AT(expert.ppo.width)},
    {"expert.layers", M4N_KEY_INT, "3", "layers before the last", 1, 8, AT(expert.ppo.layers)},
    {"expert.batch", M4N_KEY_INT, "4096", "decisions of a step of the optimiser", 1, 1 << 20,
     AT(expert.ppo.batch)},
    {"expert.epochs", M4N_KEY_INT, "3", "passes over what was played", 1, 100, AT(expert.ppo.epochs)},
    {"expert.lr", M4N_KEY_NUMBER, "5e-4", "learning rate at the beginning", 1e-9, 1, AT(expert.ppo.lr)},
    {"expert.lr_end", M4N_KEY_NUMBER, "5e-5", "and at the end", 1e-9, 1, AT(expert.ppo.lr_end)},
    {"expert.entropy", M4N_KEY_NUMBER, "0.01", "weight of the entropy at the beginning", 1e-9, 10,
     AT(expert.ppo.entropy)},
    {"expert.entropy_end", M4N_KEY_NUMBER, "5e-4", "and at the end", 1e-9, 10, AT(expert.ppo.entropy_end)},
    {"expert.gamma", M4N_KEY_NUMBER, "0.99", "discount of rewards", 0, 1, AT(expert.ppo.gamma)},
    {"expert.lambda", M4N_KEY_NUMBER, "0.95", "of the advantages", 0, 1, AT(expert.ppo.lambda)},
    {"expert.clip", M4N_KEY_NUMBER, "0.2", "of the ratio of probabilities", 1e-3, 10, AT(expert.ppo.clip)},
    {"expert.reward_scale", M4N_KEY_NUMBER, "0.2", "a reward counts so much", 1e-9, 1e9,
     AT(expert.ppo.reward_scale)},
    {"expert.reward_knee", M4N_KEY_NUMBER, "-10", "and below this only as its logarithm", -1e9, -1e-9,
     AT(expert.ppo.reward_knee)},
    {"expert.average", M4N_KEY_NUMBER, "0.999", "decay of the averaged weights, which are kept", 0, 0.999999,
     AT(expert.ppo.average)},

    {"collect.policies", M4N_KEY_POLICIES, "[]",
     "whose episodes are the pool; a model's name may say ':sample'",
     LIST(collect.policies, collect.n_policies, 1, 64)},
    {"collect.shares", M4N_KEY_NUMBERS, "[]", "how much of it each plays; []: all alike", 0, 1e9,
     LIST(collect.shares, collect.n_shares, 1, 64)},
    {"collect.episodes", M4N_KEY_INT, "400", "episodes of the train set, together", 1, 1e9,
     AT(collect.episodes)},
    {"collect.together", .usual = "no", .meaning = "yes: policies play the same episodes, else each its own",
     CHOICE(switches), AT(collect.together)},
    {"collect.advice", .usual = "no",
     .meaning = "yes: the simulator's oracle advises on every decision, for label.by: oracle",
     CHOICE(switches), AT(collect.advice)},

    FIT("adapt", adapt.fit),
    {"adapt.window", M4N_KEY_INT, "model", "steps of a window; model: the model's", 1, 1024, .word = "model",
     .number = "0", AT(adapt.window)},
    {"adapt.rtg_scale", M4N_KEY_NUMBER, "pool",
     "returns to go are divided by it; pool: by the pool's largest (1000 as published)", 1e-9, 1e9,
     .word = "pool", .number = "0", AT(adapt.rtg_scale)},
    {"adapt.weighting", .usual = "none", .meaning = "of decisions: all alike, or by their advantage",
     CHOICE(weightings), AT(adapt.weighting)},

    {"label.by", .usual = "teacher",
     .meaning = "whose answers the student learns: the teacher's (the paper's method), a policy's "
                "(label.expert), the "
                "offline optimum's (collect.advice), nobody's (the log's actions alone)",
     CHOICE(labellers), AT(label.by)},
    {"label.expert", M4N_KEY_POLICY, "expert", "for label.by: expert", .word = "expert", AT(label.expert)},
    {"label.stride", M4N_KEY_INT, "1", "a labelled window begins at every so manyth step", 1, 1024,
     AT(label.stride)},
    {"label.batch", M4N_KEY_INT, "64", "windows of a pass", 1, 4096, AT(label.batch)},

    {"reuse.mode", .usual = "head",
     .meaning = "how the student begins with its teacher's weights; random and spectrum are controls, none: "
                "from the seed",
     CHOICE(reuses), AT(reuse.mode)},

    FIT("distil", distil.fit),
    {"distil.fresh", M4N_KEY_NUMBER, "3", "learning rate of what weight reuse left new, times lr", 0.001,
     1000, AT(distil.fit.fresh)},
    {"distil.task_weight", M4N_KEY_NUMBER, "1", "of the cross-entropy with the log's actions", 0, 1e6,
     AT(distil.task_weight)},
    {"distil.label_weight", M4N_KEY_NUMBER, "0.5", "of the divergence from the labels", 0, 1e6,
     AT(distil.label_weight)},
    {"distil.divergence", .usual = "forward",
     .meaning = "from the labels: KL forward or reverse, Jensen-Shannon", CHOICE(divergences),
     AT(distil.divergence)},
    {"distil.temperature", M4N_KEY_NUMBER, "2", "both distributions are softened by it", 0.01, 100,
     AT(distil.temperature)},
    {"distil.jsd", M4N_KEY_NUMBER, "0.5", "for divergence: jsd: weight of the labels in the mixture", 0.001,
     0.999, AT(distil.jsd)},
    {"distil.weighting", .usual = "none", .meaning = "of the cross-entropy: all alike, or by advantage",
     CHOICE(weightings), AT(distil.weighting)},
    {"distil.on_policy.share", M4N_KEY_NUMBER, "0",
     "share of a batch that the student has played itself and the labeller has labelled", 0, 1,
     AT(distil.on_policy.share)},
    {"distil.on_policy.weight", M4N_KEY_NUMBER, "1", "of its divergence", 0, 1e6,
     AT(distil.on_policy.weight)},
    {"distil.on_policy.every", M4N_KEY_INT, "500", "steps between rounds of playing", 1, 1e9,
     AT(distil.on_policy.every)},
    {"distil.on_policy.start", M4N_KEY_INT, "0", "step of the first round", 0, 1e9,
     AT(distil.on_policy.start)},
    {"distil.on_policy.episodes", M4N_KEY_INT, "64", "episodes of a round", 1, 1e6,
     AT(distil.on_policy.episodes)},
    {"distil.on_policy.keep", M4N_KEY_INT, "4", "rounds that are learned from", 1, 1024,
     AT(distil.on_policy.keep)},

    {"tune.checkpoint", M4N_KEY_PATH, "trained",
     "a tuned student that is done; trained: the one that the stage makes", .word = "trained",
     AT(tune.checkpoint)},
    {"tune.steps", M4N_KEY_INT, "0",
     "steps of a policy gradient that the student takes in the simulator (about 640); 0: none", 0, 1e9,
     AT(tune.ppo.fit.steps)},
    FIT_AT("tune", tune.ppo.fit, "3e-5"),
    {"tune.value_lr", M4N_KEY_NUMBER, "100", "learning rate of the value head, times lr", 0.001, 1e6,
     AT(tune.ppo.fit.fresh)},
    {"tune.value_first", M4N_KEY_INT, "32", "steps in which the value head learns alone", 0, 1e9,
     AT(tune.ppo.value_first)},
    {"tune.every", M4N_KEY_INT, "16", "steps between rounds of playing", 1, 1e9, AT(tune.ppo.every)},
    {"tune.episodes", M4N_KEY_INT, "32", "episodes of a round", 1, 1e6, AT(tune.ppo.episodes)},
    {"tune.stride", M4N_KEY_INT, "10",
     "a window begins at every so manyth step of an episode, at most the model's window", 1, 1024,
     AT(tune.ppo.stride)},
    {"tune.gamma", M4N_KEY_NUMBER, "0.99", "discount of rewards", 0, 1, AT(tune.ppo.gamma)},
    {"tune.lambda", M4N_KEY_NUMBER, "0.95", "of the advantages", 0, 1, AT(tune.ppo.lambda)},
    {"tune.clip_ratio", M4N_KEY_NUMBER, "0.2", "of the ratio of probabilities", 1e-3, 10, AT(tune.ppo.clip)},
    {"tune.entropy", M4N_KEY_NUMBER, "0.01", "weight of the entropy in the first step, falling to 0", 0, 10,
     AT(tune.ppo.entropy)},
    {"tune.reward_scale", M4N_KEY_NUMBER, "0.2", "a reward counts so much", 1e-9, 1e9,
     AT(tune.ppo.reward_scale)},
    {"tune.reward_floor", M4N_KEY_NUMBER, "-20", "and is never below this", -1e9, 1e9,
     AT(tune.ppo.reward_floor)},
    {"tune.reference.weight", M4N_KEY_NUMBER, "0.1", "of the divergence from whom it is held to; 0: nobody",
     0, 1e6, AT(tune.ppo.reference.weight)},
    {"tune.reference.by", .usual = "labeller",
     .meaning = "whom it is held to: whoever labels (label.by), or the student as it was", CHOICE(references),
     AT(tune.ppo.reference.who)},

    {"evaluate.policies", M4N_KEY_POLICIES, NULL, "the policies that are compared",
     LIST(evaluate.policies, evaluate.n_policies, 1, 64)},
    {"evaluate.episodes", M4N_KEY_INT, "all",
     "episodes that each policy plays; all: as many as there are traces", 1, 1e9, .word = "all",
     .number = "0", AT(evaluate.episodes)},
    {"evaluate.set", .usual = "test", .meaning = "the traces they are played on", CHOICE(sets),
     AT(evaluate.set)},
    {"evaluate.delay.kind", .usual = "zero",
     .meaning = "what a decision costs on the simulated clock: nothing, delay.ms, or the time it took",
     CHOICE(delays), AT(evaluate.delay.kind)},
    {"evaluate.delay.ms", M4N_KEY_NUMBER, "0", "for delay.kind: fixed", 0, 60000, AT(evaluate.delay.ms)},

    {"ablation.variants", M4N_KEY_TEXTS, "[]",
     "for mamba4net ablate: what is compared with the scenario as it is: 'name key=value key=value'",
     LIST(ablation.variants, ablation.n_variants, 1, 64)},
    {"ablation.seeds", M4N_KEY_INT, "3", "seeds of each: seed, seed + 1, …", 1, 100, AT(ablation.seeds)},
    {"ablation.policy", M4N_KEY_POLICY, "student", "whose episodes are compared", .word = "student",
     AT(ablation.policy)},

    {"bridge.endpoint", M4N_KEY_TEXT, "inproc", "where simulator and agent meet: inproc, ipc, tcp or a URI",
     AT(bridge.endpoint)},
    {"bridge.lanes", M4N_KEY_INT, "64", "episodes that a simulator plays at once", 1, M4N_MAX_LANES,
     AT(bridge.lanes)},
    {"bridge.mode", .usual = "lockstep",
     .meaning = "answer when all simulators have asked, in their order (lockstep), or first come (async)",
     CHOICE(modes), AT(bridge.lockstep)},
    {"bridge.connect_ms", M4N_KEY_INT, "10000", "the simulator gives up if nobody answers its greeting", 1,
     86400000, AT(bridge.connect_ms)},
    {"bridge.first_ms", M4N_KEY_INT, "10000", "the simulator gives up waiting for the first decision", 1,
     86400000, AT(bridge.first_ms)},
    {"bridge.act_ms", M4N_KEY_INT, "1000", "the simulator asks again if a decision takes longer", 1, 86400000,
     AT(bridge.act_ms)},
    {"bridge.resends", M4N_KEY_INT, "3",
     "so many times, waiting twice as long each time, then gives up unless a PING is answered", 1, 16,
     AT(bridge.resends)},
    {"bridge.idle_ms", M4N_KEY_INT, "30000",
     "the agent takes a simulator that is silent for so long as lost; others in lockstep wait for it", 1,
     86400000, AT(bridge.idle_ms)},
    {"bridge.wait_ms", M4N_KEY_INT, "60000",
     "the agent gives up if no simulator is there for so long; forever: never", 1, 86400000,
     .word = "forever", .number = "0", AT(bridge.wait_ms)},
    {"bridge.fallback", M4N_KEY_POLICY, "none", "policy that answers when a decision is late", .word = "none",
     AT(bridge.fallback)},
    {"bridge.decide_ms", M4N_KEY_INT, "500", "with a fallback: a decision is late after so long", 1, 86400000,
     AT(bridge.decide_ms)},
};
const int m4n_n_keys = (int)(sizeof m4n_keys / sizeof *m4n_keys);
