/*
 * follow: two Ps swap shards, or one of them is detached, beside a trim that takes them
 * away (package shard, follow.go and trim.go).
 *
 * States. slot is the shard of each P, 0 if none. A P's stores wait in a buffer
 * until its processor flushes it: stored counts those of sections that wait there,
 * odd is what others see of the number of sections, begun and ended, modulo 2.
 * written[s] is the P + 1 whose data in shard s others do not see yet. detached is the
 * shard that was taken from an idle P, for the janitor, 0 if none. lock is the table's.
 *
 * Who makes the transitions. Whoever is pinned on a P begins a section, loads
 * the slot, uses the shard, ends the section; who finds no shard waits for the
 * lock, and installs one if there still is none. Swap empties both slots under
 * the lock, makes all processors flush (Barrier), and swaps the shards if both
 * numbers are even, else puts them back. Detach does so with one slot. Trim, or the
 * janitor, empties a slot under the lock, or takes what was detached; it makes all
 * processors flush, and waits for the end of the section under way; then it drains the
 * shard, which is spare.
 *
 * Proved. A shard never has two users; what its last user wrote is visible to the
 * next. Nobody waits for ever.
 *
 * Abstracted. The buffer is that of x86, first in, first out; all but the counts
 * and the shards' data is atomic. A section begins with an empty buffer. That the
 * owner's P has begun no section meanwhile only saves useless swaps, and is left out.
 * One P's shard is detached, one shard at a time.
 *
 * Seen: 910,000 states.
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
byte detached;
bool lock;

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
	atomic {
		!lock;
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
		fi
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

#ifdef DETACH_UNCHECKED
#define MayDetach true
#else
#define MayDetach (!odd[1])
#endif

#ifdef NO_CHECK
#define MaySwap true
#elif defined(ONE_CHECK)
#define MaySwap (!odd[0])
#else
#define MaySwap (!odd[0] && !odd[1])
#endif

inline swap() {
	atomic { !lock && slot[0] != 0 && slot[1] != 0 ->
		lock = true;
		a = slot[0];
		b = slot[1];
		slot[0] = 0
	};
	slot[1] = 0;
	Barrier();
	if
	:: MaySwap -> slot[0] = b; slot[1] = a
	:: else -> slot[0] = a; slot[1] = b
	fi;
	atomic { a = 0; b = 0; lock = false }
}

inline detach() {
	atomic { !lock && slot[1] != 0 && detached == 0 ->
		lock = true;
		a = slot[1];
		slot[1] = 0
	};
	Barrier();
	atomic {
		if
		:: MayDetach -> detached = a
		:: else -> slot[1] = a
		fi;
		a = 0;
		lock = false
	}
}

active proctype followOrDetach() {
	byte a, b;

	do
	:: swap()
	:: detach()
	od
}

inline swapOut() {
	atomic {
		!lock && (slot[0] != 0 || slot[1] != 0 || detached != 0);
		if
		:: slot[0] != 0 -> p = 0; s = slot[0]; slot[0] = 0
		:: slot[1] != 0 -> p = 1; s = slot[1]; slot[1] = 0
		:: detached != 0 -> p = 2; s = detached; detached = 0
		fi
	}
}

/* awaitUsers and await */
inline awaitUsers() {
	if
	:: p < 2 ->
		Barrier();
#ifndef NO_AWAIT
		!odd[p]
#endif
	:: else
	fi
}

active proctype Trim() {
	byte p, s;

	do
	:: swapOut();
		awaitUsers();
		use(s, 2);
		atomic { users[s] = false; spare[s] = true; p = 0; s = 0 }
	od
}

init { atomic { slot[0] = 1; slot[1] = 2; spare[3] = true } }
