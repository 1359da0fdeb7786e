/*
 * double: two frees of one block (package pool: State, Seal, SealOnce, Unseal, Give, Gave,
 * Empty; engine: freeBlock, scatter, give, take). What the documentation says of double
 * frees is proved here, or shown by a twin.
 *
 * States. sealed tells whether the block bears its seal; copies, of each of two magazines,
 * whether it has the block; set, whether its bit is set. count is the pool's, of which this
 * is the only block: 1 means that the pool is empty.
 *
 * Who makes the transitions. Two frees of the block, which a program holds. A home one
 * loads the seal and stores it, a foreign one swaps it; each that succeeds puts the block
 * into its own magazine. Scatter, which moves the block from a magazine to its pool. Two
 * mallocs, without end, each of which pops the block from a home magazine, or gets it by a
 * refill, then looks for the seal, and then clears it: without the seal the block is lost.
 * What is handed out is not freed again.
 *
 * The frees come in one of three ways. FOREIGN: both are foreign. AFTER: one begins when the
 * other has returned. ONCE: they may overlap, and one at least is at home; then no malloc
 * has the block before both have returned, and mallocs look and clear one after the other.
 *
 * Proved. FOREIGN and AFTER: a free succeeds only if somebody holds the block, whom it was
 * handed out to, so one of two frees without a malloc in between is told that it is a
 * double free; and a pool that is empty by its count has the block, which is nowhere else.
 * All three: nobody is handed a block that somebody holds; one free succeeds; the count is
 * the number of bits; no copy of the block is left over.
 *
 * Each twin fails. These lack a guard:
 *
 *	LOAD_STORE  a foreign free seals by a load and a store
 *	BLIND       a malloc does not look for the seal
 *	COUNT_RUN   a scatter adds the length of its run, with bits that were set already
 *
 * And these ask for more than holds ONCE:
 *
 *	TOLD      that one of the two frees is told; both may succeed
 *	COINCIDE  that mallocs may overlap; the block may have two owners then
 *	EARLY     that the block may be handed out between a free's look and its store; the same
 *	EMPTY     that a pool that is empty by its count has the block; it may be given back
 *	          while a magazine has the block, or somebody holds it
 *
 * A free that looks after the block was handed out again frees somebody else's block, as
 * AFTER and FOREIGN have it: no allocator can tell. A foreign free looks when it swaps.
 *
 * Seen: 2,700 states.
 */

mtype = { FOREIGN, AFTER, ONCE };

mtype way;
bool sealed, set;
bool copies[2], home[2];
short count;
byte returned; /* frees */
bool looking;  /* a malloc, in ONCE */

/* ghosts */
bool held = true; /* by a program */
byte freed, lost, handouts;
byte hands;       /* of scatter and mallocs, that have the block */

#ifdef TOLD
#define Strict true
#else
#define Strict (way != ONCE)
#endif

#ifdef EMPTY
#define EmptyStrict true
#else
#define EmptyStrict (way != ONCE)
#endif

#ifdef EARLY
#define MayPop true
#else
#define MayPop (way != ONCE || returned == 2)
#endif

#ifdef COINCIDE
#define MayLook true
#else
#define MayLook (way != ONCE || !looking)
#endif

inline succeed() {
	assert(held || !Strict);
	held = held && seen != handouts; /* else the block is somebody else's by now */
	freed++;
	copies[i] = true
}

inline freeHome() {
	d_step { was = sealed; seen = handouts }; /* State */
	if
	:: was
	:: else -> d_step { sealed = true; succeed() } /* Seal, Push */
	fi
}

inline freeForeign() {
#ifdef LOAD_STORE
	freeHome()
#else
	d_step { /* SealOnce, PushOut */
		was = sealed;
		seen = handouts;
		sealed = true;
		if
		:: was
		:: else -> succeed()
		fi
	}
#endif
}

proctype Free(byte i) {
	bool was;
	byte seen;

	way != AFTER || returned == i;
	if
	:: home[i] -> freeHome()
	:: !home[i] -> freeForeign()
	fi;
	returned++
}

#ifdef COUNT_RUN
#define Given 1
#else
#define Given (1 - set)
#endif

inline give() {
	d_step { given = Given; set = true; hands-- }; /* Give */
	d_step { count = count + given; given = 0; look() } /* Gave */
}

/* Empty, of whoever has the pool in hand */
inline look() { assert(count != 1 || !EmptyStrict || (!held && hands == 0 && !copies[0] && !copies[1])) }

proctype Scatter() {
	short given;

end:
	do
	:: atomic { copies[0] -> copies[0] = false; hands++ }; give()
	:: atomic { copies[1] -> copies[1] = false; hands++ }; give()
	od
}

/* take: Unseal, if the seal is there */
inline take() {
	atomic { MayLook -> looking = true };
#ifdef BLIND
	was = true;
#else
	was = sealed;
#endif
	if
	:: was -> d_step { sealed = false; assert(!held); held = true; handouts++; hands--; was = false }
	:: else -> d_step { lost++; hands-- }
	fi;
	looking = false
}

proctype Malloc() {
	bool was;

end:
	do
	:: atomic { MayPop && copies[0] && home[0] -> copies[0] = false; hands++ }; take()
	:: atomic { MayPop && copies[1] && home[1] -> copies[1] = false; hands++ }; take()
	:: atomic { MayPop && set && count > 0 -> look(); set = false; count--; hands++ }; take() /* Take and Left */
	od
}

init {
	atomic {
		if
		:: way = FOREIGN
		:: way = AFTER
		:: way = ONCE
		fi;
		if
		:: way != FOREIGN -> home[0] = true
		:: way != ONCE
		fi;
		if
		:: way != FOREIGN -> home[1] = true
		:: true
		fi;
		run Free(0);
		run Free(1);
		run Scatter();
		run Malloc();
		run Malloc()
	};
	timeout ->
	assert(returned == 2 && freed > 0);
	assert(count == set && !set && !copies[0] && !copies[1]);
	assert(held && hands == 0 && lost < freed)
}
