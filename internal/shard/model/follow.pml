/*
 * follow: two Ps swap shards, beside a trim that takes them away (package shard,
 * follow.go and trim.go).
 *
 * States. slot is the shard of each P, 0 if none. A P's stores wait in a buffer
 * until its processor flushes it: stored counts those of sections that wait there,
 * odd is what others see of the number of sections, begun and ended, modulo 2.
 * written[s] is the P + 1 whose data in shard s others do not see yet. lock is the
 * table's.
 *
 * Who makes the transitions. Whoever is pinned on a P begins a section, loads
 * the slot, uses the shard, ends the section; who finds no shard waits for the
 * lock, and installs one if there still is none. Follow empties both slots under
 * the lock, makes all processors flush (Barrier), and swaps the shards if both
 * numbers are even, else puts them back. Trim empties a slot under the lock, waits
 * for a moment at which nobody is pinned (grace.Wait, which flushes too), and
 * drains the shard, which is spare then.
 *
 * Proved. A shard never has two users; what its last user wrote is visible to the
 * next. Nobody waits for ever.
 *
 * Abstracted. The buffer is that of x86, first in, first out; all but the counts
 * and the shards' data is atomic. A section begins with an empty buffer. That the owner's P has begun no section meanwhile
 * only saves useless swaps, and is left out.
 *
 * Seen: 960,000 states.
 */

#define SHARDS 3

byte slot[2];
byte stored[2];
bool odd[2];
bool inSection[2];
byte used[2]; /* the shard whose data is among what waits in the buffer */
byte written[SHARDS + 1];
bool users[SHARDS + 1]; /* ghost */
bool spare[SHARDS + 1];
bool lock;

#define Lock() atomic { !lock -> lock = true }
#define Unlock() lock = false

inline use(s, p) {
	d_step {
		assert(!users[s]);
		assert(written[s] == 0 || written[s] == p + 1);
		users[s] = true
	}
}

/* flush makes what waits in the buffer of p visible */
inline flush(p) {
	d_step {
		odd[p] = (odd[p] + stored[p]) % 2;
		stored[p] = 0;
		if
		:: used[p] != 0 && written[used[p]] == p + 1 -> written[used[p]] = 0
		:: else
		fi;
		used[p] = 0
	}
}

/* the processor flushes of itself, the oldest store first: data is older than the
 * end of its section */
active [2] proctype Processor() {
	byte p = _pid;
end:
	do
	:: d_step { stored[p] > 0 && !(stored[p] == 1 && used[p] != 0) -> stored[p]--; odd[p] = 1 - odd[p] }
	:: d_step { used[p] != 0 && stored[p] <= 1 ->
			if
			:: written[used[p]] == p + 1 && !users[used[p]] -> written[used[p]] = 0; used[p] = 0
			:: else
			fi
		}
	od
}

inline install(p) {
	Lock();
	atomic {
		if
		:: slot[p] == 0 ->
			if
			:: spare[1] -> slot[p] = 1
			:: !spare[1] && spare[2] -> slot[p] = 2
			:: !spare[1] && !spare[2] && spare[3] -> slot[p] = 3
			:: else /* a new one, that nobody knows yet */
			fi;
			spare[slot[p]] = false
		:: else
		fi;
		Unlock()
	}
}

active [2] proctype P() {
	byte p = _pid - 2;
	byte s;

	do
	:: atomic { stored[p] == 0 && used[p] == 0 -> inSection[p] = true; stored[p]++ }; /* begin */
		s = slot[p];
		if
		:: s != 0 ->
			use(s, p);
			atomic { users[s] = false; written[s] = p + 1; used[p] = s }
		:: else
		fi;
		atomic { stored[p]++; inSection[p] = false }; /* end */
		if
		:: s == 0 -> install(p)
		:: else
		fi;
		s = 0
	od
}

inline Barrier() {
#ifdef NO_BARRIER
	skip
#else
	atomic { flush(0); flush(1) }
#endif
}

#ifdef NO_CHECK
#define MaySwap true
#elif defined(ONE_CHECK)
#define MaySwap (!odd[0])
#else
#define MaySwap (!odd[0] && !odd[1])
#endif

active proctype follow() {
	byte a, b;

	do
	:: Lock();
		a = slot[0];
		b = slot[1];
		if
		:: a != 0 && b != 0 ->
			slot[0] = 0;
			slot[1] = 0;
			Barrier();
			if
			:: MaySwap -> slot[0] = b; slot[1] = a
			:: else -> slot[0] = a; slot[1] = b
			fi
		:: else
		fi;
		atomic { a = 0; b = 0; Unlock() }
	od
}

inline swapOut() {
	Lock();
	if
	:: s = slot[0]; slot[0] = 0
	:: s = slot[1]; slot[1] = 0
	fi;
	Unlock()
}

active proctype Trim() {
	byte s;

	do
	:: swapOut();
#ifndef NO_GRACE
		atomic { !inSection[0] && !inSection[1] -> flush(0); flush(1) }; /* Wait */
#endif
		if
		:: s != 0 -> use(s, 2); atomic { users[s] = false; spare[s] = true }
		:: else
		fi;
		s = 0
	od
}

init { atomic { slot[0] = 1; slot[1] = 2; spare[3] = true } }
