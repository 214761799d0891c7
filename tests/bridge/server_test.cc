// The agent's side in order: handshakes, answers, repeats, rounds of several simulators, ends.
#include "tests/bridge/server_fixture.h"

TEST_F(Server, WelcomesAndAnswers) {
  options.policy = "toy policy";
  options.policy_hash = 42;
  start();
  raw_peer peer(endpoint.c_str());
  peer.hello(spec, 3);
  ASSERT_TRUE(peer.welcome());
  EXPECT_NE(peer.session, 0u);
  EXPECT_EQ(peer.welcomed.version, 1u);
  EXPECT_STREQ(peer.welcomed.policy, "toy policy");
  EXPECT_EQ(peer.welcomed.policy_hash, 42u);
  EXPECT_EQ(peer.welcomed.spec_hash, m4n_spec_hash(&spec));
  EXPECT_EQ(peer.welcomed.idle_ms, 20000);
  EXPECT_EQ(peer.welcomed.n_resets, 3);
  EXPECT_FALSE(peer.welcomed.done);
  agent->stop();
  EXPECT_EQ(owner.began, 1);
  EXPECT_EQ(owner.ended, 1);
}

TEST_F(Server, RefusesVersionsSpecsAndWhatItsOwnerDoesNotWant) {
  start();
  raw_peer peer(endpoint.c_str());
  m4n_hello hello{};
  hello.oldest = 3, hello.newest = 4, hello.lanes = 1, hello.spec = spec;
  m4n_encode_hello(&peer.out, &hello);
  peer.send();
  EXPECT_EQ(peer.error(M4N_WIRE_VERSION),
            "HELLO.versions: no version in common: the simulator speaks 3 to 4, this agent 1 to 1");
  EXPECT_TRUE(peer.fatal);
  m4n_spec bad = spec;
  snprintf(bad.act[0].mask, M4N_NAME, "time");
  peer.hello(bad, 1);
  EXPECT_EQ(peer.error(M4N_WIRE_SPEC), "HELLO.spec: action 'choice': no u8 field 'time' to mask it");
  peer.hello(spec, 9);
  EXPECT_EQ(peer.error(M4N_WIRE_FULL), "HELLO.lanes: no room for 9 lanes: the agent has 8 in all");
  bad = spec;
  bad.obs[0].dtype = 9;
  peer.hello(bad, 1);
  EXPECT_EQ(peer.error(M4N_WIRE_MALFORMED), "HELLO.obs[0].dtype: 9, expected 1 to 6");
  owner.refuse = M4N_EUNSUPPORTED;
  peer.hello(spec, 1);
  EXPECT_EQ(peer.error(M4N_WIRE_REFUSED), ": we do not like simulator 'raw'");
  owner.refuse = 0;
  peer.hello(spec, 8); // nothing is left of those
  EXPECT_TRUE(peer.welcome());
  agent->stop();
  EXPECT_EQ(owner.ended, 1);
  EXPECT_EQ(stats().errors, 5);
}

TEST_F(Server, AHelloThatIsRepeatedGetsTheSameSession) {
  start();
  raw_peer peer(endpoint.c_str());
  peer.hello(spec, 2);
  ASSERT_TRUE(peer.welcome());
  const uint64_t session = peer.session;
  const std::string first = peer.frame;
  peer.hello(spec, 2);
  ASSERT_TRUE(peer.welcome());
  EXPECT_EQ(peer.session, session);
  EXPECT_EQ(peer.frame, first);
  raw_rows rows(spec, 2, M4N_FIRST);
  peer.step(spec, rows.view, 1);
  ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_ACT);
  peer.hello(spec, 2);
  EXPECT_EQ(peer.error(M4N_WIRE_REFUSED), "HELLO.uid: a session with this uid is under way");
  agent->stop();
  EXPECT_EQ(owner.began, 1);
}

TEST_F(Server, AStepThatIsRepeatedGetsTheSameActAndIsNotDecidedAgain) {
  start();
  raw_peer peer(endpoint.c_str());
  begin(peer);
  const std::string act = peer.frame;
  raw_rows rows(spec, 2, M4N_FIRST);
  for (int i = 0; i < 3; i++) {
    peer.step(spec, rows.view, 1);
    ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_ACT);
    EXPECT_EQ(peer.frame, act);
  }
  // Stale, and a gap: an error that names what was expected, and the session goes on.
  peer.step(spec, rows.view, 0);
  EXPECT_EQ(peer.error(M4N_WIRE_SEQUENCE), "STEP.seq: 0, expected 2");
  EXPECT_FALSE(peer.fatal);
  EXPECT_EQ(peer.head.seq, 0u);
  peer.step(spec, rows.view, 3);
  EXPECT_EQ(peer.error(M4N_WIRE_SEQUENCE), "STEP.seq: 3, expected 2");
  std::fill(rows.flags.begin(), rows.flags.end(), 0);
  peer.step(spec, rows.view, 2);
  EXPECT_EQ(peer.receive(), (unsigned)M4N_FRAME_ACT);
  agent->stop();
  EXPECT_EQ(owner.decided, 2);
  EXPECT_EQ(stats().resent, 3);
}

TEST_F(Server, AnotherConnectionMayGoOnWithASession) {
  start();
  raw_peer second(endpoint.c_str());
  std::string act;
  {
    raw_peer first(endpoint.c_str());
    begin(first);
    act = first.frame;
    second.session = first.session;
    raw_rows rows(spec, 2, M4N_FIRST);
    second.step(spec, rows.view, 1);
    ASSERT_EQ(second.receive(), (unsigned)M4N_FRAME_ACT);
    EXPECT_EQ(second.frame, act);
  } // the first connection breaks: the session lives at the second
  expect_alive();
  raw_rows rows(spec, 2, 0);
  second.step(spec, rows.view, 2);
  EXPECT_EQ(second.receive(), (unsigned)M4N_FRAME_ACT);
  agent->stop();
  EXPECT_EQ(owner.began, 1);
}

TEST_F(Server, LanesBeginWhenToldAndEndOnce) {
  start();
  raw_peer peer(endpoint.c_str());
  peer.hello(spec, 2);
  ASSERT_TRUE(peer.welcome());
  raw_rows rows(spec, 2, M4N_FIRST);
  rows.view.n = 1; // a message may carry some of the lanes
  peer.step(spec, rows.view, 1);
  ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_ACT);
  rows.flags = {M4N_TERMINATED, M4N_FIRST};
  rows.view.n = 2;
  peer.step(spec, rows.view, 2);
  ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_ACT);
  std::vector<uint8_t> action(2 * spec.act_size), served(2);
  std::vector<int64_t> delay(2);
  std::vector<float> figure(2);
  m4n_act act{};
  act.action = action.data(), act.served_by = served.data(), act.delay_ns = delay.data();
  act.logp = act.value = figure.data(), act.reset = peer.resets.data();
  ASSERT_EQ(m4n_decode_act(&peer.in, &spec, 2, 2, &act), 0) << m4n_error_message();
  ASSERT_EQ(act.n_resets, 1);
  EXPECT_EQ(peer.resets[0].lane, 0);
  EXPECT_EQ(peer.resets[0].episode, 2);
  rows.flags = {0, 0}; // lane 0 goes on as if it had not ended
  peer.step(spec, rows.view, 3);
  EXPECT_EQ(peer.error(M4N_WIRE_LANE),
            "STEP.lane: lane 0 was told to begin an episode: expected its first row");
}

TEST_F(Server, PingsKeepASessionAlive) {
  options.idle_ms = 400;
  start();
  raw_peer peer(endpoint.c_str());
  begin(peer);
  for (int i = 0; i < 8; i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    m4n_encode_ping(&peer.out, M4N_FRAME_PING, peer.session, 1, 5);
    peer.send();
    ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_PONG);
  }
  m4n_encode_stats_request(&peer.out, peer.session, 1);
  peer.send();
  ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_STATS);
  m4n_wire_stats s;
  ASSERT_EQ(m4n_decode_stats(&peer.in, &s), 0);
  EXPECT_EQ(s.sessions, 1u);
  EXPECT_EQ(s.rows, 2u);
  EXPECT_EQ(s.messages, 11u);
}

TEST_F(Server, InLockstepRowsComeInTheOrderOfSessions) {
  options.lockstep = true;
  std::vector<std::string> order;
  owner.hook = [&](m4n_server *, const m4n_rows *rows, m4n_replies *replies) {
    std::string names;
    for (int i = 0; i < rows->n; i++) {
      names += std::to_string(rows->slot[i]) + (i + 1 < rows->n ? " " : "");
      replies->action[(size_t)i * rows->spec->act_size] = (uint8_t)(rows->slot[i] % 4);
    }
    order.push_back(names);
    return 0;
  };
  start();
  raw_peer a(endpoint.c_str()), b(endpoint.c_str());
  a.hello(spec, 2, 1);
  ASSERT_TRUE(a.welcome());
  b.hello(spec, 3, 2);
  ASSERT_TRUE(b.welcome());
  raw_rows of_a(spec, 2, M4N_FIRST), of_b(spec, 3, M4N_FIRST);
  for (size_t i = 0; i < 3; i++) of_b.episode[i] = b.resets[i].episode;
  for (uint64_t seq = 1; seq <= 4; seq++) { // whoever speaks first
    raw_peer &first = seq % 2 ? b : a, &second = seq % 2 ? a : b;
    first.step(spec, (seq % 2 ? of_b : of_a).view, seq);
    EXPECT_EQ(first.receive(50), 0u);
    second.step(spec, (seq % 2 ? of_a : of_b).view, seq);
    ASSERT_EQ(second.receive(), (unsigned)M4N_FRAME_ACT);
    ASSERT_EQ(first.receive(), (unsigned)M4N_FRAME_ACT);
    std::fill(of_a.flags.begin(), of_a.flags.end(), 0);
    std::fill(of_b.flags.begin(), of_b.flags.end(), 0);
  }
  agent->stop();
  EXPECT_EQ(order, std::vector<std::string>(4, "0 1 2 3 4")); // one batch a round
}

TEST_F(Server, DifferentSpecsAreDifferentBatches) {
  options.lockstep = true;
  std::vector<int> sizes;
  owner.hook = [&](m4n_server *, const m4n_rows *rows, m4n_replies *) {
    sizes.push_back(rows->n);
    EXPECT_EQ(rows->spec->n_constants, rows->n == 2 ? 2 : 1);
    return 0;
  };
  start();
  m4n_spec other = spec;
  other.n_constants = 1;
  other.n_values = other.constant[0].count;
  memset(&other.constant[1], 0, sizeof other.constant[1]);
  raw_peer a(endpoint.c_str()), b(endpoint.c_str());
  a.hello(spec, 2, 1);
  ASSERT_TRUE(a.welcome());
  b.hello(other, 3, 2);
  ASSERT_TRUE(b.welcome());
  raw_rows of_a(spec, 2, M4N_FIRST), of_b(other, 3, M4N_FIRST);
  for (size_t i = 0; i < 3; i++) of_b.episode[i] = b.resets[i].episode;
  b.step(other, of_b.view, 1);
  a.step(spec, of_a.view, 1);
  ASSERT_EQ(a.receive(), (unsigned)M4N_FRAME_ACT);
  ASSERT_EQ(b.receive(), (unsigned)M4N_FRAME_ACT);
  agent->stop();
  EXPECT_EQ(sizes, (std::vector<int>{2, 3}));
}

TEST_F(Server, AsyncAnswersWhoIsThereAndGathersForAMoment) {
  options.gather_us = 100000;
  start();
  raw_peer a(endpoint.c_str()), b(endpoint.c_str());
  a.hello(spec, 2, 1);
  ASSERT_TRUE(a.welcome());
  b.hello(spec, 2, 2);
  ASSERT_TRUE(b.welcome());
  raw_rows of_a(spec, 2, M4N_FIRST), of_b(spec, 2, M4N_FIRST);
  for (size_t i = 0; i < 2; i++) of_b.episode[i] = b.resets[i].episode;
  a.step(spec, of_a.view, 1);
  b.step(spec, of_b.view, 1);
  ASSERT_EQ(a.receive(), (unsigned)M4N_FRAME_ACT);
  ASSERT_EQ(b.receive(), (unsigned)M4N_FRAME_ACT);
  raw_rows more(spec, 2, 0);
  a.step(spec, more.view, 2); // b says nothing
  ASSERT_EQ(a.receive(2000), (unsigned)M4N_FRAME_ACT);
  agent->stop();
  EXPECT_EQ(owner.batches, (std::vector<int>{4, 2}));
}

TEST_F(Server, SleepsWhenThereIsNothingToDo) {
  options.gather_us = 50000;
  start();
  raw_peer honest(endpoint.c_str());
  begin(honest, 1);
  { // dies while its STEP waits for others
    raw_peer mortal(endpoint.c_str());
    mortal.hello(spec, 2, 2);
    ASSERT_TRUE(mortal.welcome());
    raw_rows rows(spec, 2, M4N_FIRST);
    for (size_t i = 0; i < 2; i++) rows.episode[i] = mortal.resets[i].episode;
    mortal.step(spec, rows.view, 1);
  }
  auto cpu_ms = [] {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
  };
  const int64_t before = cpu_ms();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  EXPECT_LT(cpu_ms() - before, 200);
}

TEST_F(Server, SaysByeToEverybodyWhenItIsStopped) {
  start();
  raw_peer a(endpoint.c_str()), b(endpoint.c_str());
  begin(a, 1);
  begin(b, 2);
  EXPECT_EQ(agent->stop(), M4N_ECANCELLED);
  for (raw_peer *peer : {&a, &b}) {
    ASSERT_EQ(peer->receive(), (unsigned)M4N_FRAME_BYE);
    m4n_bye bye;
    ASSERT_EQ(m4n_decode_bye(&peer->in, &bye), 0);
    EXPECT_STREQ(bye.reason, "the agent was told to stop");
    EXPECT_EQ(bye.status, 1);
  }
  EXPECT_EQ(owner.ended, 2);
  EXPECT_EQ(owner.lost, 2);
}

TEST_F(Server, SlotsAreGivenAgain) {
  start();
  for (int i = 0; i < 30; i++) { // of 5 lanes each, where 8 fit
    raw_peer peer(endpoint.c_str());
    peer.hello(spec, 5, (uint8_t)(i + 1));
    ASSERT_TRUE(peer.welcome()) << i;
    m4n_bye bye{"", 0};
    m4n_encode_bye(&peer.out, peer.session, 0, &bye);
    peer.send();
    ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_BYE);
  }
  agent->stop();
  EXPECT_EQ(owner.began, 30);
  EXPECT_EQ(owner.ended, 30);
}

TEST_F(Server, TheLastActIsKeptForASimulatorThatMissedIt) {
  owner.serve_on = false;
  toy_owner two(2);
  options.slots = 8;
  two.serve_on = true;
  agent = std::make_unique<toy_agent>(options, two.owner());
  raw_peer peer(endpoint.c_str());
  peer.hello(spec, 2);
  ASSERT_TRUE(peer.welcome());
  raw_rows rows(spec, 2, M4N_FIRST);
  peer.step(spec, rows.view, 1);
  ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_ACT);
  std::fill(rows.flags.begin(), rows.flags.end(), (uint8_t)M4N_TRUNCATED);
  peer.step(spec, rows.view, 2);
  ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_ACT);
  const std::string last = peer.frame;
  peer.step(spec, rows.view, 2);
  ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_ACT);
  EXPECT_EQ(peer.frame, last);
  peer.step(spec, rows.view, 3);
  EXPECT_EQ(peer.error(M4N_WIRE_SESSION), "STEP.session: the session is over");
  agent->stop();
  EXPECT_EQ(two.ended, 1);
  EXPECT_EQ(two.lost, 0);
  EXPECT_EQ(two.decided, 2);
}
