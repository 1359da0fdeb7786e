/*
 * srcu: the grace period without pinning (package grace with the build tag
 * pymalloc_nolinkname), and the swap of a shard with it.
 *
 * States. epoch is the parity of the epoch; running[e] counts the sections of each
 * parity. slot is a shard, 0 if none; busy[s] tells that shard s is taken.
 *
 * Who makes the transitions. Two readers: Enter loads the epoch and, in a step of
 * its own, counts the section; Take loads the slot and takes the shard by a swap
 * of busy; Exit gives the shard back and ends the count; a reader that finds the
 * slot empty installs another shard. The swapper empties the slot, waits (Wait:
 * twice, flip the epoch and wait until the old parity counts nothing), and uses
 * the shard, which is spare after that.
 *
 * Proved. A shard never has two users. Wait ends if the sections that began before it
 * end: the search finds no state without a way on.
 *
 * Abstracted. One of the counters that sections are spread over: Wait looks at each
 * of them by itself. One slot of several. Sequential consistency, as all of it
 * is sync/atomic.
 *
 * Seen: 33,000 states.
 */

#define SHARDS 3

#ifdef ONE_FLIP
#define FLIPS 1
#else
#define FLIPS 2
#endif

byte epoch;
byte running[2];
byte slot;
bool busy[SHARDS + 1];
bool spare[SHARDS + 1] = true;
bool users[SHARDS + 1]; /* ghost */

inline use(s) { d_step { assert(!users[s]); users[s] = true } }
inline unuse(s) { d_step { assert(users[s]); users[s] = false } }

/* newShard, and the store to the slot, under the table's lock */
inline fillSlot() {
	atomic {
		if
		:: slot == 0 ->
			if
			:: spare[1] -> slot = 1
			:: !spare[1] && spare[2] -> slot = 2
			:: else -> assert(spare[3]); slot = 3
			fi;
			spare[slot] = false
		:: else
		fi
	}
}

inline Enter() {
	parity = epoch;
	running[parity]++
}

#define Exit() running[parity]--

#ifdef NO_BUSY
#define CompareAndSwapBusy(s) atomic { true -> taken = true }
#else
#define CompareAndSwapBusy(s) atomic { taken = !busy[s]; busy[s] = true }
#endif

inline take() {
	s = slot;
	if
	:: s != 0 -> CompareAndSwapBusy(s)
	:: else
	fi
}

active [2] proctype Reader() {
	byte parity, s;
	bool taken;

	do
	:: Enter();
		take();
		if
		:: taken ->
			use(s);
			unuse(s);
			busy[s] = false
		:: else
		fi;
		Exit();
		if
		:: s == 0 -> fillSlot()
		:: else
		fi;
		atomic { parity = 0; s = 0; taken = false }
	od
}

inline Wait() {
#ifdef NO_GRACE
	skip
#else
	n = 0;
	do
	:: n < FLIPS ->
		n++;
		epoch = 1 - epoch;
		running[1 - epoch] == 0
	:: else -> break
	od
#endif
}

active proctype Swapper() {
	byte s, n;

	do
	:: atomic { slot != 0 -> s = slot; slot = 0 };
		Wait();
		use(s);
		unuse(s);
		assert(!busy[s]);
		spare[s] = true;
		atomic { s = 0; n = 0 }
	od
}
