// The agent's side against simulators that are confused, dead, silent or hostile: each gets its error, and the others are
// served as if nothing had happened.
#include "tests/bridge/server_fixture.h"

namespace {
class ServerFaults : public Server {};
} // namespace

TEST_F(ServerFaults, ASimulatorThatLiesLosesItsSession) {
  struct lie {
    const char *expected;
    unsigned code;
    std::function<void(raw_rows &)> tell;
  };
  const lie lies[] = {
      {"STEP.lane: lane 0 has two rows", M4N_WIRE_LANE,
       [](raw_rows &r) { r.lane[1] = 0, r.episode[1] = r.episode[0]; }},
      {"STEP.lane: row 1: lane 2, expected 0 to 1", M4N_WIRE_MALFORMED, [](raw_rows &r) { r.lane[1] = 2; }},
      {"STEP.lane: lane 1 begins an episode that nobody asked for", M4N_WIRE_LANE,
       [](raw_rows &r) { r.flags[1] = M4N_FIRST; }},
      {"STEP.episode: lane 0: episode 99, expected", M4N_WIRE_LANE, [](raw_rows &r) { r.episode[0] = 99; }},
      {"STEP.reward: row 0: nan", M4N_WIRE_MALFORMED, [](raw_rows &r) { r.reward[0] = NAN; }},
      {"STEP.obs[time]: row 0, element 0: inf", M4N_WIRE_MALFORMED,
       [](raw_rows &r) {
         double x = HUGE_VAL;
         memcpy(r.obs.data(), &x, sizeof x);
       }},
      {"STEP.n: 0, expected 1 to 2", M4N_WIRE_MALFORMED, [](raw_rows &r) { r.view.n = 0; }},
  };
  start();
  raw_peer honest(endpoint.c_str());
  begin(honest, 200);
  const int64_t episode = first_episode;
  uint8_t uid = 1;
  uint64_t seq = 2;
  for (const lie &l : lies) {
    raw_peer liar(endpoint.c_str());
    begin(liar, uid++);
    raw_rows rows(spec, 2, 0);
    for (size_t i = 0; i < 2; i++) rows.episode[i] = first_episode + (int64_t)i;
    l.tell(rows);
    liar.step(spec, rows.view, 2);
    const std::string text = liar.error(l.code);
    EXPECT_EQ(text.rfind(l.expected, 0), 0u) << text;
    EXPECT_TRUE(liar.fatal);
    EXPECT_EQ(liar.head.seq, 2u);
    liar.step(spec, rows.view, 3);
    EXPECT_NE(liar.error(M4N_WIRE_SESSION).find("is no session here"), std::string::npos);

    raw_rows fair(spec, 2, 0); // the honest one plays on
    for (size_t i = 0; i < 2; i++) fair.episode[i] = episode + (int64_t)i;
    honest.step(spec, fair.view, seq++);
    ASSERT_EQ(honest.receive(), (unsigned)M4N_FRAME_ACT);
  }
  agent->stop();
  EXPECT_EQ(owner.lost, (int)std::size(lies) + 1); // and the honest one, whose episodes were not over
  EXPECT_EQ(stats().lost_sessions, owner.lost);
}

TEST_F(ServerFaults, GarbageIsAnsweredAndNothingMore) {
  start();
  raw_peer honest(endpoint.c_str()), hostile(endpoint.c_str());
  begin(honest);
  const char *garbage[] = {"x",
                           "\x94\x01\x03\x07\x01",
                           "\xdd\xff\xff\xff\xff",
                           "GET / HTTP/1.1\r\n\r\n",
                           "\x94\x01\x02\x00\x00",
                           "\x95\x01\x06\x00\x00\xc0",
                           "\x95\x01\x08\x00\x00\x01"};
  for (const char *text : garbage) {
    hostile.send_bytes(text);
    ASSERT_EQ(hostile.receive(), (unsigned)M4N_FRAME_ERROR) << text;
  }
  hostile.send_bytes(std::string(M4N_MAX_FRAME - 16, '\x91')); // 4 MiB of nesting
  EXPECT_EQ(hostile.error(M4N_WIRE_MALFORMED), "frame: 1 items, expected 4 to 64");
  // Frames that only an agent sends.
  m4n_encode_ping(&hostile.out, M4N_FRAME_PONG, 0, 0, 1);
  hostile.send();
  EXPECT_EQ(hostile.error(M4N_WIRE_MALFORMED), "type: PONG is what an agent sends, not a simulator");
  raw_rows rows(spec, 2, 0);
  honest.step(spec, rows.view, 2);
  EXPECT_EQ(honest.receive(), (unsigned)M4N_FRAME_ACT);
  agent->stop();
  EXPECT_EQ(owner.began, 1);
}

TEST_F(ServerFaults, AFloodGrowsNothingAndStarvesNobody) {
  start();
  raw_peer honest(endpoint.c_str()), flood(endpoint.c_str());
  begin(honest);
  auto resident_kb = [] {
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    EXPECT_EQ(fscanf(f, "%*d %ld", &pages), 1);
    fclose(f);
    return pages * 4;
  };
  m4n_pack_begin(&flood.out); // no frame at all, and the answers are never read
  memset(m4n_pack_bin(&flood.out, 200000), 0x91, 200000);
  for (int i = 0; i < 50; i++) m4n_link_send(flood.link, nullptr, &flood.out);
  const long before = resident_kb();
  uint64_t seq = 2;
  for (int i = 0; i < 2000; i++) {
    m4n_link_send(flood.link, nullptr, &flood.out); // as much as it takes
    if (i % 20) continue;
    raw_rows rows(spec, 2, 0);
    honest.step(spec, rows.view, seq++);
    ASSERT_EQ(honest.receive(), (unsigned)M4N_FRAME_ACT);
  }
  if (!m4n_sanitized()) { // which keeps what was freed
    EXPECT_LT(resident_kb() - before, 32 * 1024);
  }
}

TEST_F(ServerFaults, ADeadSimulatorIsNoticed) {
  options.lockstep = true;
  start();
  raw_peer honest(endpoint.c_str());
  begin(honest, 1);
  const int64_t episode = first_episode;
  raw_rows rows(spec, 2, 0);
  {
    raw_peer mortal(endpoint.c_str());
    mortal.hello(spec, 2, 2);
    ASSERT_TRUE(mortal.welcome());
    for (size_t i = 0; i < 2; i++) rows.episode[i] = episode + (int64_t)i;
    honest.step(spec, rows.view, 2);
    EXPECT_EQ(honest.receive(100), 0u);                     // in lockstep the round waits for both
  }                                                         // dies without a word
  EXPECT_EQ(honest.receive(3000), (unsigned)M4N_FRAME_ACT); // long before the deadline of a silent one
  agent->stop();
  EXPECT_EQ(owner.ended, 2);
}

TEST_F(ServerFaults, ASilentSimulatorIsClosedByItsDeadline) {
  options.idle_ms = 150;
  start();
  raw_peer peer(endpoint.c_str());
  begin(peer);
  EXPECT_EQ(peer.error(M4N_WIRE_LATE), ": silent for longer than its deadline of 150 ms");
  EXPECT_TRUE(peer.fatal);
  expect_alive();
  agent->stop();
  EXPECT_EQ(owner.lost, 1);
}

TEST_F(ServerFaults, AFailingOwnerStopsItWithItsReason) {
  owner.hook = [](m4n_server *, const m4n_rows *, m4n_replies *) {
    return m4n_fail(M4N_EIO, "the disk is full");
  };
  start();
  raw_peer peer(endpoint.c_str());
  peer.hello(spec, 1);
  ASSERT_TRUE(peer.welcome());
  raw_rows rows(spec, 1, M4N_FIRST);
  peer.step(spec, rows.view, 1);
  ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_BYE);
  m4n_bye bye;
  ASSERT_EQ(m4n_decode_bye(&peer.in, &bye), 0);
  EXPECT_STREQ(bye.reason, "the disk is full");
  EXPECT_EQ(agent->join(), M4N_EIO);
  EXPECT_EQ(agent->message, "the disk is full");
}

TEST_F(ServerFaults, GivesUpWhenNobodyComes) {
  options.wait_ms = 100;
  start();
  EXPECT_EQ(agent->join(), M4N_ETIMEOUT);
  EXPECT_NE(agent->message.find("no simulator was connected for 100 ms"), std::string::npos)
      << agent->message;
}

TEST_F(ServerFaults, ByeAndErrorOfASimulatorEndItsSession) {
  start();
  raw_peer peer(endpoint.c_str());
  begin(peer, 1);
  m4n_bye bye{"enough", 3};
  m4n_encode_bye(&peer.out, peer.session, 1, &bye);
  peer.send();
  EXPECT_EQ(peer.receive(), (unsigned)M4N_FRAME_BYE);
  begin(peer, 2);
  m4n_wire_error error{M4N_WIRE_REFUSED, true, "ACT.action", "no such level"};
  m4n_encode_error(&peer.out, peer.session, 1, &error);
  peer.send();
  EXPECT_EQ(peer.receive(), (unsigned)M4N_FRAME_BYE);
  agent->stop();
  EXPECT_EQ(owner.ended, 2);
  EXPECT_EQ(owner.lost, 2); // their episodes were not over
}

TEST_F(ServerFaults, ResetsAreChecked) {
  int live = 0, range = 0, twice = 0, copy = 0, advice = 0;
  owner.hook = [&](m4n_server *server, const m4n_rows *rows, m4n_replies *) {
    if (owner.decided == 1) return 0;
    m4n_reset order{0, M4N_SET_TEST, 5, 1, 0, -1};
    live = m4n_server_reset(server, rows->session[0], &order);
    order.lane = 7;
    range = m4n_server_reset(server, rows->session[0], &order);
    order.lane = 1, order.copy_of = 0;
    copy = m4n_server_reset(server, rows->session[0], &order);
    order.copy_of = -1, order.options = M4N_RESET_ADVICE;
    advice = m4n_server_reset(server, rows->session[0], &order);
    order.options = 0;
    EXPECT_EQ(m4n_server_reset(server, rows->session[0], &order), 0) << m4n_error_message();
    twice = m4n_server_reset(server, rows->session[0], &order);
    return 0;
  };
  start();
  raw_peer peer(endpoint.c_str());
  m4n_spec plain = spec;
  plain.capabilities = 0;
  peer.hello(plain, 3);
  ASSERT_TRUE(peer.welcome());
  raw_rows rows(spec, 3, M4N_FIRST);
  peer.step(spec, rows.view, 1);
  ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_ACT);
  rows.flags = {0, M4N_TERMINATED, 0};
  peer.step(spec, rows.view, 2);
  ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_ACT);
  agent->stop();
  EXPECT_EQ(live, M4N_EARG);
  EXPECT_EQ(range, M4N_EARG);
  EXPECT_EQ(copy, M4N_EARG);
  EXPECT_EQ(advice, M4N_EARG);
  EXPECT_EQ(twice, M4N_EARG);
}
