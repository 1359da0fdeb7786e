/*
 * reclaim: a request that finds no room (engine: reclaims, stir, found, mayHelp, reclaim, trim,
 * claim, freeBlock, grow).
 *
 * States. tries, stirs and enough are the words. Two blocks of a pool are freed, which makes
 * it empty; each is in the magazine of a shard, or in pools. has tells whether the shard has
 * magazines. room tells that the pool was given back.
 *
 * Who makes the transitions. A goroutine, which frees both: a fast path pushes a block on the
 * magazine; a slow path scatters it, and gives the shard magazines where it has none. A
 * request for more than there will ever be, whose one try is in vain. And one that begins
 * after both frees have returned, and wants the pool's memory. A try trims: it takes the
 * magazines of the shard away, or leaves the shard if it is in the middle of a call that
 * goes on, and gives the pool back if it is empty.
 *
 * Proved. The last request gets the memory: no free is missed between the tries of others.
 *
 * Each twin lacks a guard, and fails:
 *
 *	RESET_LATE  reclaim resets the stirs after the trim
 *	STIR_EARLY  a scatter is noted before the block is in its pool
 *	GROW_QUIET  it is not noted that a shard got magazines, which take blocks in silence
 *	LEFT_QUIET  it is not noted that a try has left a shard with its magazines
 *	NO_SEEN     who finds no try due does not ask whether another had one meanwhile
 *
 * Abstracted. Stores are seen in order, as those of sync/atomic are. enough is as it is before
 * the second vain try: the waiting for more stirs than one is on purpose, and no fault.
 *
 * Seen: 2,500 states.
 */

bool has, claimed, busy; /* of the shard */
byte magazine, pools;
bool room, returned, trimming;
byte tries, stirs, enough;

#define lock(m) atomic { !m -> m = true }
#define unlock(m) m = false

inline stir() {
	if
	:: stirs < enough -> stirs++
	:: else
	fi
}

/* A request got memory; after a try, or it would not matter. */
inline found() { enough = 1; stir() }

inline claim() {
	claimed = true;
	if
	:: !busy ->
		d_step { pools = pools + magazine; magazine = 0; has = false };
		claimed = false
	:: busy -> /* it is left */
		claimed = false;
#ifndef LEFT_QUIET
		stir()
#endif
	fi
}

inline trim() {
	claim();
	if
	:: pools == 2 -> pools = 0; room = true
	:: else
	fi
}

#define mayHelp (stirs >= enough)

inline reclaim(seen, again) {
	again = false;
	isDue = mayHelp;
	if
	:: isDue
	:: else ->
#ifdef NO_SEEN
		goto refused
#else
		if
		:: tries == seen && seen % 2 == 0 -> goto refused
		:: else
		fi
#endif
	fi;
	lock(trimming);
	if
	:: tries != seen -> again = true
	:: tries == seen && mayHelp ->
		tries++;
		enough = (enough == 0 -> 1 : 2 * enough);
#ifdef RESET_LATE
		trim();
		stirs = 0;
#else
		stirs = 0;
		trim();
#endif
		tries++;
		again = true
	:: else
	fi;
	unlock(trimming)
}

inline scatter() {
#ifdef STIR_EARLY
	stir();
	pools++
#else
	pools++;
	stir()
#endif
}

inline grow() {
	if
	:: atomic { !claimed -> has = true };
#ifndef GROW_QUIET
		stir()
#endif
	:: true /* it is claimed, or there is no memory */
	fi
}

proctype Free() {
	byte n;

	for (n : 1 .. 2) {
		atomic {
			if
			:: has && !claimed -> busy = true
			:: else
			fi
		};
		if
		:: busy -> d_step { magazine++; busy = false }
		:: else -> scatter(); grow()
		fi
	}
	returned = true
}

proctype Refused() {
	byte seen = tries;
	bool again, isDue;
	reclaim(seen, again);
refused:
	skip
}

proctype Late() {
	byte seen;
	bool again, isDue;

	returned;
	do
	:: seen = tries;
		if
		:: room -> room = false; goto got
		:: else
		fi;
		reclaim(seen, again);
		if
		:: again
		:: else -> break
		fi
	od;
refused:
	assert(false);
got:
	found()
}

init {
	atomic {
		if
		:: has = true
		:: true
		fi;
		run Free();
		run Refused();
		run Late()
	}
}
