#!/usr/bin/env python3
"""Plays against the project's agent with nothing but pyzmq and msgpack, written from bridge/PROTOCOL.md.

    client_test.py PUSH_SERVER PROTOCOL.md

Exit status 77 (skipped) where pyzmq or msgpack is missing.
"""
import os
import struct
import subprocess
import sys
import tempfile
import unittest

try:
    import msgpack
    import zmq
except ImportError as missing:
    print(f"skipped: {missing} (apt install python3-zmq python3-msgpack)")
    sys.exit(77)

HELLO, WELCOME, STEP, ACT, ERROR, PING, PONG, STATS, BYE = range(1, 10)
FIRST, TERMINATED = 1, 2
WAIT_MS = 10000
SERVER, PROTOCOL = sys.argv[1:3]

# Two lanes or more; the second field is a list whose length varies; two action components.
OBS = [["x", 1, [], 0, "m", None, None, ""], ["queue", 3, [-1, 2], 4, "1", 0, 99, ""], ["allowed", 5, [3], 0, "1", 0, 1, ""]]
ACTIONS = [["push", 3, [], 0, "index", 0, 2, "allowed"], ["gear", 3, [], 0, "index", 0, 4, ""]]


def pack(code, values):
    return struct.pack(f"<{len(values)}{code}", *values)


def unpack(code, data):
    return struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data)


class Agent:
    """The server under test, as a process of its own."""

    def __init__(self, endpoint, episodes):
        self.process = subprocess.Popen([SERVER, endpoint, str(episodes)], stdout=subprocess.PIPE, text=True)
        self.endpoint = self.process.stdout.readline().strip()

    def finish(self):
        out, _ = self.process.communicate(timeout=30)
        return self.process.returncode, out

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Peer:
    def __init__(self, endpoint, kind=zmq.DEALER):
        self.socket = zmq.Context.instance().socket(kind)
        self.socket.linger = 0
        self.socket.connect(endpoint)
        self.kind = kind

    def send(self, *frame):
        self.socket.send(msgpack.packb(frame))

    def receive(self):
        if not self.socket.poll(WAIT_MS):
            raise AssertionError("no reply")
        parts = self.socket.recv_multipart()
        assert len(parts) == 1, parts
        self.bytes = parts[0]
        return msgpack.unpackb(parts[0])

    def ask(self, *frame):
        self.send(*frame)
        return self.receive()

    def hello(self, lanes, versions=(1, 1), obs=OBS, actions=ACTIONS):
        return self.ask(versions[1], HELLO, 0, 0, list(versions), "snake", "0.1", os.urandom(16), lanes, "cart", obs,
                        actions, [["speed", "m/s", 0]], [["distance", "m", -1]], {"episodes": [50, 0, 0]}, "-|x|", 2)


class World:
    """Carts: an episode has 3 + episode % 3 steps."""

    def __init__(self, lanes):
        self.lanes = [None] * lanes

    def begin(self, resets):
        for lane, _, episode, seed, options, copy_of in resets:
            assert self.lanes[lane] is None and seed == 100 + episode and options == 1 and copy_of == -1
            self.lanes[lane] = {"episode": episode, "x": episode / 3, "step": 0, "reward": 0.0, "time": 0}

    def rows(self):
        """Lane, its state and its flags, highest lane first: any order will do."""
        for lane in reversed(range(len(self.lanes))):
            s = self.lanes[lane]
            if s:
                last = s["step"] == 3 + s["episode"] % 3
                yield lane, s, FIRST if s["step"] == 0 else TERMINATED if last else 0

    def step_frame(self, session, seq):
        rows = list(self.rows())
        states = [s for _, s, _ in rows]
        flags = [f for _, _, f in rows]
        counts = [s["step"] % 5 for s in states]
        queue = [v % 99 for s, c in zip(states, counts) for v in range(2 * c)]
        return rows, [
            1, STEP, session, seq, len(rows), pack("i", [lane for lane, _, _ in rows]),
            pack("q", [s["episode"] for s in states]), pack("q", [s["time"] for s in states]),
            [pack("d", [s["x"] for s in states]), pack("I", counts) + pack("i", queue), bytes([1, 1, 1] * len(rows))],
            pack("d", [s["reward"] for s in states]), bytes(flags), pack("d", [float("nan")] * len(rows)),
            pack("d", [abs(s["x"]) for s, f in zip(states, flags) if f == TERMINATED]),
            [f"cart {s['episode']}" for s, f in zip(states, flags) if f == FIRST],
            [pack("i", [1] * len(rows)), pack("i", [4] * len(rows))], bytes([f == 0 for f in flags])]

    def act(self, rows, reply):
        push, gear, delays = unpack("i", reply[5][0]), unpack("i", reply[5][1]), reply[8] and unpack("q", reply[8])
        assert reply[4] == len(rows) == len(push) == len(gear) == len(reply[9])
        for i, (lane, s, flags) in enumerate(rows):
            if flags == TERMINATED:
                self.lanes[lane] = None
                continue
            assert push[i] == int(4 * s["x"] // 1) % 3 and gear[i] == int(4 * s["x"] // 1) % 5, (s, push[i], gear[i])
            s["x"] += 0.3 * (push[i] - 1) + 0.01 * gear[i]
            s["reward"] = -abs(s["x"])
            s["step"] += 1
            s["time"] += 10**8 + (delays[i] if delays else 0)
            assert not delays or delays[i] == 1000000 * i


def play(peer, lanes):
    """A whole session; the numbers of the episodes that were played."""
    welcome = peer.hello(lanes)
    assert welcome[1] == WELCOME and welcome[4] == 1 and welcome[6] == "push", welcome
    session, resets, done = welcome[2], welcome[11], welcome[12]
    world, seq, played = World(lanes), 0, []
    while not done:
        world.begin(resets)
        seq += 1
        rows, frame = world.step_frame(session, seq)
        reply = peer.ask(*frame)
        assert reply[:4] == [1, ACT, session, seq], reply
        played += [s["episode"] for _, s, flags in rows if flags == TERMINATED]
        world.act(rows, reply)
        resets, done = reply[6], reply[7]
    return sorted(played)


class ThirdParty(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def agent(self, episodes, endpoint=None):
        agent = Agent(endpoint or f"ipc://{self.folder.name}/a.sock", episodes)
        self.addCleanup(agent.kill)
        return agent

    def peer(self, agent, kind=zmq.DEALER):
        peer = Peer(agent.endpoint, kind)
        self.addCleanup(peer.socket.close)
        return peer

    def test_dealer_and_req_over_ipc_and_tcp(self):
        for endpoint in (None, "tcp://127.0.0.1:*"):
            for kind in (zmq.DEALER, zmq.REQ):
                for lanes in (1, 5):
                    with self.subTest(endpoint=endpoint, kind=kind, lanes=lanes):
                        agent = self.agent(7, endpoint)
                        self.assertEqual(play(self.peer(agent, kind), lanes), list(range(7)))
                        self.assertEqual(agent.finish(), (0, "session of 'snake' ended\n"))

    def test_the_example_of_the_specification(self):
        with open(PROTOCOL, encoding="utf-8") as f:
            code = f.read().split("```python\n")[1].split("```")[0]
        agent = self.agent(3)
        address = "ipc:///run/user/1000/mamba4net/agent.sock"
        self.assertIn(address, code)
        names = {}
        exec(compile(code.replace(address, agent.endpoint), PROTOCOL, "exec"), names)
        names["agent"].close()
        self.assertEqual(agent.finish(), (0, "session of 'cart' ended\n"))

    def test_a_step_sent_again_gets_the_same_act(self):
        agent = self.agent(100)
        peer = self.peer(agent)
        welcome = peer.hello(2)
        world = World(2)
        world.begin(welcome[11])
        _, frame = world.step_frame(welcome[2], 1)
        peer.ask(*frame)
        first = peer.bytes
        other = self.peer(agent, zmq.REQ)  # over a new connection
        other.ask(*frame)
        self.assertEqual(other.bytes, first)
        reply = other.ask(*(frame[:3] + [9] + frame[4:]))
        self.assertEqual(reply[1:4], [ERROR, welcome[2], 9])
        self.assertEqual(reply[4:7], [6, False, "STEP.seq"])
        self.assertEqual(reply[7], "9, expected 2")

    def test_what_is_wrong_is_named(self):
        agent = self.agent(100)
        peer = self.peer(agent)
        reply = peer.hello(2, versions=(2, 9))
        self.assertEqual(reply[1], ERROR)
        self.assertEqual(reply[4:7], [2, True, "HELLO.versions"])
        self.assertIn("the simulator speaks 2 to 9, this agent 1 to 1", reply[7])
        reply = peer.hello(2, obs=[["x", 2, [], 0, "m", None, None, ""]], actions=ACTIONS[1:])
        self.assertEqual(reply[4:], [4, True, "HELLO.obs[0].dtype", "expected f64"])
        welcome = peer.hello(2)
        world = World(2)
        world.begin(welcome[11])
        _, frame = world.step_frame(welcome[2], 1)
        frame[8][1] = frame[8][1][:-1]
        reply = peer.ask(*frame)
        self.assertEqual(reply[4:7], [1, True, "STEP.obs[queue]"])

    def test_parts_and_small_frames(self):
        agent = self.agent(100)
        peer = self.peer(agent)
        peer.socket.send_multipart([msgpack.packb([1, PING, 0, 0, 7])] * 3)
        self.assertEqual(peer.receive()[1], ERROR)
        peer.socket.send_multipart([b"x", b"", b""])
        self.assertEqual(peer.receive()[1], ERROR)
        peer.socket.send(b"")
        self.assertEqual(peer.receive()[1], ERROR)
        self.assertEqual(peer.ask(1, PING, 0, 5, 2**64 - 1), [1, PONG, 0, 5, 2**64 - 1])
        stats = peer.ask(1, STATS, 0, 0)
        self.assertEqual(stats[4:], [0, 5, 0, 3, 0, 0])
        welcome = peer.hello(1)
        self.assertEqual(peer.ask(1, BYE, welcome[2], 0, "enough", 0)[1], BYE)

    def test_a_simulator_that_dies_is_lost_and_others_play_on(self):
        agent = self.agent(3)
        dying = self.peer(agent)
        self.assertEqual(dying.hello(1)[1], WELCOME)
        dying.socket.close()
        self.assertEqual(agent.process.stdout.readline(), "session of 'snake' ended, lost\n")
        peer = self.peer(agent)
        self.assertEqual(peer.hello(1)[1], WELCOME)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
