/*
 * count: a pool without an owner: its bitmap, its count, and usedpools with the sweep
 * (package pool: Format, Take, Left, Give, Gave, Empty; engine: fill, popPool, push, newPool,
 * give, sweep; package arena: Take, Put).
 *
 * States. Of each pool: the bitmap, blocks 0 and 1 in bits0 and block 2 in bits1; count;
 * carved; class, 0 if its units are the arenas'. Of each class: two stacks, and front, the
 * one that pushes go to. where tells which stack a pool is on.
 *
 * Who makes the transitions. Workers, without end, each of which makes one of these calls
 * at a time. A refill (fill) takes a pool from usedpools, else from the arenas, and takes
 * up to three blocks of it, of those that were handed out before, and one other. A scatter
 * (give) gives back blocks that anybody was given. A sweep takes pools from the front,
 * gives the empty ones to the arenas, where any class may take them, pushes the others on
 * the back, and exchanges front and back when it finds the front empty.
 *
 * Proved. A pool is in one hand at most, and in none while it is on a stack. A block is in
 * its pool or with somebody, and never given twice. A refill finds a block in the pool that
 * it has in hand. A pool is given to the arenas, and formatted, only when all its blocks are
 * in it and no scatter stands between its first OR and its addition. Whoever has a block
 * finds it below carved. When no call is under way the count is the number of bits, and a
 * pool is on a stack of its class if and only if it has a free block. All this holds
 * although front may have changed since it was read.
 *
 * Each twin lacks a guard, and fails:
 *
 *	BY_BITS      a sweep knows an empty pool by its bits, not by its count
 *	ADD_FIRST    a scatter adds to the count before it sets the bits
 *	SET_STORE    a scatter sets bits by a load and a store
 *	CLEAR_STORE  a refill clears bits by a load and a store
 *	SPLIT_LEFT   a refill subtracts first, and loads the count then
 *	SPLIT_GAVE   a scatter loads the count first, and adds then
 *	READ_LATE    a scatter reads the pool after its addition, in hand or not
 *	CARVE_LATE   a refill writes carved after its subtraction, which gives the hand away
 *
 * Abstracted. A stack is a set: a pop takes any pool of it (tagstack.pml has the stack). No
 * block is freed twice (double.pml). The arenas' lock is one step. Homes, seals, and the
 * count of empty pools are left out: they decide what is worth while, not what is right.
 *
 * GIVERS are workers that only scatter. CALLS bounds the calls of all, 0 does not.
 *
 * Seen: 3,100,000 states.
 */

#ifndef POOLS
#define POOLS 1
#endif
#ifndef CLASSES
#define CLASSES 2
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef GIVERS
#define GIVERS 0
#endif
#ifndef CALLS
#define CALLS 0
#endif

#define BLOCKS 3
#define NONE POOLS

/* Where a pool is: on stack s of class c, with the arenas, or nowhere. */
#define On(c, s) (1 + 2 * (c) + (s))
#define Arenas 9
#define Nowhere 0

/* Where a block is: in its pool, given to somebody, or in the hand of worker me. */
#define InPool 0
#define Hand (1 + me)
#define Given 9

byte bits0[POOLS], bits1[POOLS];
short count[POOLS];
byte carved[POOLS];
byte class[POOLS]; /* class + 1 */
bit front[CLASSES];
bit sweeping[CLASSES];

/* ghosts */
byte where[POOLS] = Arenas;
byte hand[POOLS];         /* who has the pool in hand, 0 if nobody */
byte between[POOLS];      /* scatters between the first OR and the addition */
byte who[POOLS * BLOCKS]; /* where each block is */
byte busy, calls;

#define Block(p, i) who[(p) * BLOCKS + (i)]
#define Held(p, i) (Block(p, i) == Hand)
#define Complete(p) (between[p] == 0 && Block(p, 0) == InPool && Block(p, 1) == InPool && Block(p, 2) == InPool)

inline inHand(p) { assert(hand[p] == Hand && where[p] == Nowhere) }

inline takeHand(p) { assert(hand[p] == 0 && where[p] == Nowhere); hand[p] = Hand }

inline endHand(p) { inHand(p); hand[p] = 0 }

inline putOn(p, s) { endHand(p); where[p] = s }

/* Pop leaves a pool that was at s, in hand, or NONE, in p. */
inline Pop(s) {
	atomic {
		if
		:: where[0] == s -> p = 0
#if POOLS > 1
		:: where[1] == s -> p = 1
#endif
		:: else -> p = NONE
		fi;
		if
		:: p != NONE -> where[p] = Nowhere; takeHand(p)
		:: else
		fi
	}
}

inline popPool() {
	f = front[c];
	Pop(On(c, f));
	if
	:: p == NONE -> Pop(On(c, 1 - f))
	:: else
	fi
}

inline push(p) {
	f = front[c];
	d_step { assert(class[p] == 1 + c && count[p] > 0); putOn(p, On(c, f)) }
}

/* --- the arenas --- */

inline Put(p) {
	d_step {
		assert(Complete(p));
		class[p] = 0; /* the word of the header; the rest stays as it is */
		putOn(p, Arenas)
	}
}

inline Format(p) {
	d_step {
		inHand(p);
		assert(class[p] == 0 && Complete(p));
		carved[p] = 0;
		count[p] = BLOCKS;
		bits0[p] = 3;
		bits1[p] = 1
	};
	class[p] = 1 + c /* the word, last */
}

inline newPool() {
	Pop(Arenas);
	if
	:: p != NONE -> Format(p)
	:: else
	fi
}

/* --- refill --- */

#ifdef CLEAR_STORE
#define ClearFrom old
#else
#define ClearFrom bits0[p]
#endif

inline grab(p, i) {
	assert(Block(p, i) == InPool);
	Block(p, i) = Hand;
	n++;
	fresh = fresh || i == carved[p]
}

inline writeCarved(p) { carved[p] = carved[p] + (fresh -> 1 : 0) }

/* Take takes up to most blocks, the lowest of those below carved + 1, a word after the
 * other. */
inline Take(p) {
	inHand(p);
	d_step {
		old = bits0[p];
		mask = old & (carved[p] == 0 -> 1 : 3);
		mask = (most == 1 && mask == 3 -> 1 : mask)
	};
	d_step {
		bits0[p] = ClearFrom & (3 ^ mask);
		if
		:: mask & 1 -> grab(p, 0)
		:: else
		fi;
		if
		:: mask & 2 -> grab(p, 1)
		:: else
		fi;
		mask = 0;
		old = 0
	};
	if
	:: n < most && carved[p] >= 2 && bits1[p] -> d_step { bits1[p] = 0; grab(p, 2) }
	:: else
	fi;
	assert(n > 0);
#ifndef CARVE_LATE
	d_step { inHand(p); writeCarved(p); most = 0; fresh = false }
#endif
}

inline Left(p) {
#ifdef SPLIT_LEFT
	d_step { count[p] = count[p] - n; n = 0 };
#endif
	d_step {
		count[p] = count[p] - n;
		mine = count[p] > 0;
		if
		:: !mine -> endHand(p)
		:: else
		fi
	}
#ifdef CARVE_LATE
	writeCarved(p)
#endif
}

inline fill() {
	popPool();
	if
	:: p == NONE -> newPool()
	:: else
	fi;
	if
	:: p != NONE ->
		select(most : 1 .. BLOCKS);
		Take(p);
		Left(p);
		if
		:: mine -> push(p)
		:: else
		fi;
		d_step { /* the blocks are the caller's, who may send them anywhere */
			Block(p, 0) = (Held(p, 0) -> Given : Block(p, 0));
			Block(p, 1) = (Held(p, 1) -> Given : Block(p, 1));
			Block(p, 2) = (Held(p, 2) -> Given : Block(p, 2))
		}
	:: else
	fi
}

/* --- scatter --- */

#ifdef SET_STORE
#define SetFrom old
#else
#define SetFrom bits0[p]
#endif

/* Give is called for each word in which a block is given. */
inline Give(p) {
	if
	:: Held(p, 0) || Held(p, 1) ->
#ifdef SET_STORE
		old = bits0[p];
#endif
		d_step {
			mask = (Held(p, 0) -> 1 : 0) + (Held(p, 1) -> 2 : 0);
			assert((bits0[p] & mask) == 0);
			bits0[p] = SetFrom | mask;
			Block(p, 0) = (Held(p, 0) -> InPool : Block(p, 0));
			Block(p, 1) = (Held(p, 1) -> InPool : Block(p, 1));
			between[p]++
		}
	:: else
	fi;
	if
	:: Held(p, 2) ->
		d_step {
			assert(!bits1[p]);
			bits1[p] = 1;
			Block(p, 2) = InPool;
			between[p] = between[p] + (mask == 0 -> 1 : 0)
		}
	:: else
	fi
}

#ifdef ADD_FIRST
#define Ended 0
#else
#define Ended 1
#endif

inline Gave(p) {
#ifdef SPLIT_GAVE
	old = count[p];
#endif
	d_step {
#ifndef SPLIT_GAVE
		old = count[p];
#endif
		between[p] = between[p] - Ended;
		count[p] = count[p] + n;
		mine = old <= 0 && old + n > 0;
		if
		:: mine -> takeHand(p)
		:: else
		fi;
		old = 0;
		mask = 0
	};
#ifdef READ_LATE
	assert(class[p] == 1 + c)
#endif
}

inline choose(p, i) {
	if
	:: Block(p, i) == Given -> assert(i < carved[p]); Block(p, i) = Hand; n++
	:: skip
	fi
}

inline give() {
	atomic { /* blocks of one pool, which the caller frees */
		select(p : 0 .. POOLS - 1);
		choose(p, 0);
		choose(p, 1);
		choose(p, 2)
	};
	if
	:: n > 0 ->
		d_step { assert(class[p] > 0); c = class[p] - 1 };
#ifdef ADD_FIRST
		Gave(p);
		Give(p);
		between[p]--;
#else
		Give(p);
		Gave(p);
#endif
		if
		:: mine -> push(p)
		:: else
		fi
	:: else
	fi
}

/* --- sweep --- */

#ifdef BY_BITS
#define Empty(p) (bits0[p] == 3 && bits1[p] == 1)
#else
#define Empty(p) (count[p] == BLOCKS)
#endif

/* A step of a sweep looks at two pools. It may leave an empty one. */
inline sweep() {
	atomic {
		if
		:: sweeping[c] -> mine = false
		:: else -> sweeping[c] = 1; mine = true
		fi
	};
	if
	:: mine ->
		g = front[c];
		do
		:: n < 2 ->
			Pop(On(c, g));
			if
			:: p == NONE -> break
			:: else
			fi;
			n++;
			if
			:: Empty(p) -> Put(p)
			:: kept = kept | (1 << p)
			fi
		:: else -> break
		od;
		atomic { /* one chain */
			if
			:: kept & 1 -> putOn(0, On(c, 1 - g))
			:: else
			fi;
#if POOLS > 1
			if
			:: kept & 2 -> putOn(1, On(c, 1 - g))
			:: else
			fi
#endif
		};
		if
		:: n < 2 -> front[c] = 1 - g
		:: else
		fi;
		sweeping[c] = 0
	:: else
	fi
}

/* --- */

inline checkPool(p) {
	assert(hand[p] == 0 && between[p] == 0);
	if
	:: class[p] == 0 -> assert(where[p] == Arenas && Complete(p))
	:: else ->
		assert((bits0[p] & 1) == (Block(p, 0) == InPool));
		assert((bits0[p] >> 1) == (Block(p, 1) == InPool));
		assert(bits1[p] == (Block(p, 2) == InPool));
		assert(count[p] == (bits0[p] & 1) + (bits0[p] >> 1) + bits1[p]);
		assert(where[p] == (count[p] == 0 -> Nowhere : On(class[p] - 1, 0)) || (count[p] > 0 && where[p] == On(class[p] - 1, 1)))
	fi
}

proctype Worker(byte me) {
	byte p, c, n, mask, most, kept;
	short old;
	bit f, g;
	bool mine, fresh;

	do
	:: atomic {
			CALLS == 0 || calls < CALLS ->
			calls = (CALLS -> calls + 1 : 0);
			busy++;
			select(c : 0 .. CLASSES - 1)
		};
		if
		:: me < WORKERS -> fill()
		:: true -> give()
		:: me < WORKERS -> sweep()
		fi;
		d_step {
			p = 0; c = 0; n = 0; mask = 0; most = 0; kept = 0; old = 0; f = 0; g = 0; mine = false; fresh = false;
			busy--;
			if
			:: busy == 0 ->
				checkPool(0);
#if POOLS > 1
				checkPool(1)
#endif
			:: else
			fi
		}
	:: CALLS != 0 && calls == CALLS -> break
	od
}

init {
	byte i;
	atomic {
		for (i : 0 .. WORKERS + GIVERS - 1) {
			run Worker(i)
		}
	}
}
