// Branch and bound. Depth first over the chunks, the most promising level first; a branch is left when a bound
// says that no plan in it reaches the best value known.
//
// The bound. With n chunks to go and buffer b, the rebuffering to come is at least Σt - b - (n-1)·chunk_s, and at
// least 0. So for every price θ between 0 and the rebuffer weight, the value to come is at most
//
//     max over plans of Σ (gain - step - θ·t)  +  θ·(b + (n-1)·chunk_s).
//
// That maximum does not know the buffer: one backward pass gives it for every chunk and level (`rest`). Of a few
// prices the least bound counts: 0 is tight where the buffer is ample, the rebuffer weight where it is empty, and
// in between the price at which the ladder's utility is just worth its download time.
//
// Values are computed in the order that mpc_search.h states; bounds are not, and both are rounded. `slack` is far
// above what rounding can do and far below what matters, and only branches that are worse by more than it are
// left: a plan that ties is always found.

#include "agent/rules/mpc_search.h"

#include <math.h>

enum { LEVELS = M4N_ABR_MAX_LEVELS, LOOKAHEAD = M4N_ABR_LOOKAHEAD, PRICES = 4 };

/* A plan so far. */
typedef struct node {
  double paid, changed; /* U and S */
  double rebuffered;    /* R */
  double buffer;
  int level;
} node;

typedef struct search {
  const m4n_mpc_problem *problem;
  const m4n_mpc_qoe *qoe;
  double price[PRICES];
  double rest[LOOKAHEAD + 1][LEVELS][PRICES]; /* [chunks played][level of the last] */
  double slack;
  int first;   /* the first level of the plan in hand */
  double best; /* the largest value so far … */
  int choice;  /* … and the highest first level that reaches it */
} search;

m4n_mpc_qoe m4n_mpc_qoe_make(int levels, const double *utility, double rebuffer, double smooth,
                             double chunk_s) {
  m4n_mpc_qoe qoe = {
      .levels = levels, .chunk_s = chunk_s, .rebuffer = rebuffer, .smooth = smooth, .unit = 1000};
  for (int l = 0; l < levels; l++)
    if (round(utility[l] * 1000) / 1000 != utility[l]) qoe.unit = 1;
  for (int l = 0; l < levels; l++) {
    qoe.gain[l] = utility[l];
    qoe.pay[l] = qoe.unit == 1 ? utility[l] : round(utility[l] * 1000);
    for (int from = 0; from < levels; from++) qoe.step[from][l] = smooth * fabs(utility[l] - utility[from]);
  }
  return qoe;
}

static node play(const search *s, const node *from, int chunk, int level) {
  const double *pay = s->qoe->pay;
  double time = s->problem->time[chunk][level];
  node to = *from;
  to.paid += pay[level];
  to.changed += fabs(pay[level] - pay[from->level]);
  to.level = level;
  if (to.buffer < time) {
    to.rebuffered += time - to.buffer;
    to.buffer = 0;
  } else {
    to.buffer -= time;
  }
  to.buffer += s->qoe->chunk_s;
  return to;
}

static double value(const m4n_mpc_qoe *qoe, const node *n) {
  return n->paid / qoe->unit - qoe->rebuffer * n->rebuffered - qoe->smooth * (n->changed / qoe->unit);
}

/* The best sum of gain - step - θ·t from `chunk` on, for every level before it; the chunks' own seconds of
 * buffer, all but the last one's, are credited on the way. */
static void price_rest(search *s, int chunk) {
  const m4n_mpc_qoe *qoe = s->qoe;
  double ahead[LEVELS][PRICES];
  double credit = chunk < s->problem->horizon - 1 ? qoe->chunk_s : 0;
  for (int l = 0; l < qoe->levels; l++)
    for (int i = 0; i < PRICES; i++)
      ahead[l][i] =
          qoe->gain[l] - s->price[i] * (s->problem->time[chunk][l] - credit) + s->rest[chunk + 1][l][i];
  for (int from = 0; from < qoe->levels; from++) {
    double *top = s->rest[chunk][from];
    for (int i = 0; i < PRICES; i++) top[i] = -HUGE_VAL;
    for (int l = 0; l < qoe->levels; l++)
      for (int i = 0; i < PRICES; i++) {
        double sum = ahead[l][i] - qoe->step[from][l];
        top[i] = sum > top[i] ? sum : top[i];
      }
  }
}

static void prepare(search *s) {
  const m4n_mpc_problem *p = s->problem;
  const m4n_mpc_qoe *qoe = s->qoe;
  int levels = qoe->levels;
  double low = qoe->gain[0], high = low, least = 0, most = 0;
  for (int l = 1; l < levels; l++) {
    low = qoe->gain[l] < low ? qoe->gain[l] : low;
    high = qoe->gain[l] > high ? qoe->gain[l] : high;
  }
  for (int chunk = 0; chunk < p->horizon; chunk++) {
    double shortest = p->time[chunk][0], longest = shortest;
    for (int l = 1; l < levels; l++) {
      shortest = p->time[chunk][l] < shortest ? p->time[chunk][l] : shortest;
      longest = p->time[chunk][l] > longest ? p->time[chunk][l] : longest;
    }
    least += shortest;
    most += longest;
  }
  // The whole ladder's utility over its download time; since steps cost too, half of it is tried as well.
  double even = most > least ? (high - low) * p->horizon / (most - least) : 0;
  if (even > qoe->rebuffer) even = qoe->rebuffer;
  s->price[0] = 0;
  s->price[1] = even / 2;
  s->price[2] = even;
  s->price[3] = qoe->rebuffer;

  for (int l = 0; l < levels; l++)
    for (int i = 0; i < PRICES; i++) s->rest[p->horizon][l][i] = 0;
  for (int chunk = p->horizon - 1; chunk > 0; chunk--) price_rest(s, chunk);

  // About fifty roundings of at most 2^-53 of the largest sums that occur.
  double seconds = p->buffer + p->horizon * qoe->chunk_s + most;
  s->slack =
      0x1p-40 * (qoe->rebuffer * seconds + p->horizon * (1 + 2 * qoe->smooth) * fmax(fabs(low), fabs(high)));
}

static void settle(search *s, const node *leaf) {
  double v = value(s->qoe, leaf);
  if (v > s->best || (v == s->best && s->first > s->choice)) {
    s->best = v;
    s->choice = s->first;
  }
}

static void descend(search *s, const node *from, int chunk) {
  int levels = s->qoe->levels;
  node child[LEVELS];
  double bound[LEVELS];
  for (int l = 0; l < levels; l++) child[l] = play(s, from, chunk, l);
  if (chunk == s->problem->horizon - 1 || chunk == LOOKAHEAD - 1) {
    for (int l = 0; l < levels; l++) {
      if (chunk == 0) s->first = l;
      settle(s, &child[l]);
    }
    return;
  }
  for (int l = 0; l < levels; l++) {
    double least = HUGE_VAL;
    for (int i = 0; i < PRICES; i++) {
      double rest = s->rest[chunk + 1][l][i] + s->price[i] * child[l].buffer;
      least = rest < least ? rest : least;
    }
    bound[l] = value(s->qoe, &child[l]) + least;
  }
  for (int visited = 0; visited < levels; visited++) {
    int l = 0;
    for (int i = 1; i < levels; i++) l = bound[i] > bound[l] ? i : l;
    if (bound[l] + s->slack < s->best) return;
    bound[l] = -HUGE_VAL;
    if (chunk == 0) s->first = l;
    descend(s, &child[l], chunk + 1);
  }
}

int m4n_mpc_search(const m4n_mpc_problem *problem) {
  search s;
  s.problem = problem;
  s.qoe = problem->qoe;
  s.best = -HUGE_VAL;
  s.first = s.choice = 0;
  prepare(&s);
  node root = {.buffer = problem->buffer, .level = problem->last};
  descend(&s, &root, 0);
  return s.choice;
}

static void enumerate(search *s, const node *from, int chunk, int max_step) {
  if (chunk == s->problem->horizon || chunk == LOOKAHEAD) {
    settle(s, from);
    return;
  }
  for (int l = 0; l < s->qoe->levels; l++) {
    if (l > from->level + max_step || l < from->level - max_step) continue;
    if (chunk == 0) s->first = l;
    node to = play(s, from, chunk, l);
    enumerate(s, &to, chunk + 1, max_step);
  }
}

int m4n_mpc_enumerate(const m4n_mpc_problem *problem, int max_step) {
  search s;
  s.problem = problem;
  s.qoe = problem->qoe;
  s.best = -HUGE_VAL;
  s.first = s.choice = 0;
  node root = {.buffer = problem->buffer, .level = problem->last};
  enumerate(&s, &root, 0, max_step);
  return s.choice;
}
