"""The work of objects.go in Python: prints name and nanoseconds per operation."""
import gc
import statistics
import sys
import time

N = int(sys.argv[1])
ROUNDS = int(sys.argv[2])


def ints():
    x = 1000
    for _ in range(N):
        x = x + 1


def floats():
    y = 1.5
    for _ in range(N):
        x = y + 1.0


def strs():
    y = "eleven byte"
    for _ in range(N):
        x = y + "s"


def lists():
    for _ in range(N):
        x = []


def tuples():
    y = 1000
    for _ in range(N):
        x = (y, y)


def append():
    x = 1000
    add = [].append
    for _ in range(N):
        add(x)


KEYS = ["key%d" % i for i in range(N)]
STATE = {}


def dict_set():
    d = STATE["d"] = {}
    x = 1000
    for k in KEYS:
        d[k] = x


def dict_get():
    d = STATE["d"]
    for k in KEYS:
        d[k]


def dict_del():
    d = STATE["d"]
    for k in KEYS:
        del d[k]


def cycles():
    for _ in range(N // 4):
        a, b, c, d = [], [], [], []
        a.append(b)
        b.append(c)
        c.append(d)
        d.append(a)
    gc.collect()


WORK = [
    ("int", ints),
    ("float", floats),
    ("str", strs),
    ("list", lists),
    ("tuple", tuples),
    ("append", append),
    ("dict set", dict_set),
    ("dict get", dict_get),
    ("dict delete", dict_del),
    ("cycles", cycles),
]

times = {name: [] for name, _ in WORK}
for _ in range(ROUNDS):
    for name, f in WORK:
        start = time.perf_counter()
        f()
        times[name].append(time.perf_counter() - start)
for name, t in times.items():
    print(name, statistics.median(t) / N * 1e9, sep="\t")
for name, x in [
    ("bytes of an int", 1000),
    ("bytes of a float", 1.5),
    ("bytes of a str of 12", "twelve bytes"),
    ("bytes of a list of 10", [None] * 10),
    ("bytes of a tuple of 2", (None, None)),
    ("bytes of a dict of 5", {i: i for i in range(5)}),
    ("bytes of a dict of 1000", {i: i for i in range(1000)}),
]:
    print(name, sys.getsizeof(x), sep="\t")
