/* A request that finds no room: internal/shard/reclaim.go.
 *
 * Two requests and a free. The free gives a block back to a pool of some shard, where
 * only a trim finds it (idle); a trim makes it room. Refused is a request for more than
 * there will ever be: its one try is in vain. Late wants the block, and begins after
 * the free has returned.
 *
 * Proved. Late gets the block: no free is missed between the tries of others. Each
 * twin takes a line away, and fails:
 *
 *	RESET_LATE   reclaim resets the stirs after the trim
 *	STIR_EARLY   the stir is noted before the block is free
 *	NO_SEEN      who finds no try due does not ask whether another had one meanwhile
 *
 * Stores are seen in order, as those of sync/atomic are. enough is as it is before the
 * second vain try: the waiting for more stirs than one is on purpose, and no fault.
 *
 * Seen: 600 states.
 */

bool idle, room, returned, locked;
byte tries, stirs, enough;

inline lock()   { atomic { !locked -> locked = true } }
inline unlock() { locked = false }

inline stir() {
	if
	:: stirs < enough -> stirs++
	:: else
	fi
}

/* a request got a block; after a try, or it would not matter */
inline found() { enough = 1; stir() }

/* drain the shards, and give to the arenas what is idle */
inline trim() {
	if
	:: idle -> idle = false; room = true
	:: else
	fi
}

#define due (stirs >= enough)

inline reclaim(seen, again) {
	again = false;
	isDue = due;
	if
	:: isDue -> skip
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
	lock();
	if
	:: tries != seen -> again = true
	:: tries == seen && due ->
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
	unlock()
}

active proctype Free() {
#ifdef STIR_EARLY
	stir();
	idle = true;
#else
	idle = true;
	stir();
#endif
	returned = true
}

active proctype Refused() {
	byte seen = tries;
	bool again, isDue;
	reclaim(seen, again);
refused:
	skip
}

active proctype Late() {
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
