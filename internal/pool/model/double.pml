/*
 * double: frees of one block at the same moment (package pool, "Double frees").
 *
 * States. One pool of two blocks. word is {owned, head, num, chained}, changed by CAS;
 * bits, live, chain and chainLen are the owner's part of the header; hot is the block
 * that its shard keeps, magazine the one in its magazine. first is the first word of each
 * block: Data, which is whatever the program has there, or the seal of a link.
 *
 * Who makes the transitions. The owner, which allocates, frees, collects, retires the
 * pool and owns it again, without end: TakeHot, Pop, Refill, Quieten, Keep, Push, Retire,
 * Own. Freers, each of which frees one block: PushRemote. A block is freed that the
 * program holds, or whose free by somebody else is under way.
 *
 * Proved. A block is handed out only when nobody holds it. A pool that is retired has no
 * block that is held, hot or in the magazine. Of the frees of a block at the same moment
 * one succeeds, and one alone if the owner makes none of them. (This last with two freers
 * only: one that has claimed a block, and finds the pool gone, puts Data back, and if the
 * pool is owned again by then it may do so over the claim of another.)
 *
 * Abstracted. A block is not handed out while a free of it is under way that has not
 * claimed it: that would be a free of somebody else's block, not to be told from a good
 * one, the more since Data is always the same. The owner keeps any block that it frees, puts it into
 * the magazine or sets its bit, and goes along the chain a block at a time, or drops it
 * where it is broken, when it likes. A freer's look at the bitmap is one step with the
 * beginning of its free, allFreed is one step. Posts, and how a pool changes hands, are in
 * ownership.pml: a pool that has left its owner is Free here.
 *
 * Seen: 141,000 states.
 */

#define BLOCKS 2
#define FREERS 2

#define Data 0
#define Seal(link) (1 + (link))
#define IsSeal(v) ((v) != Data)
#define Link(v) ((v) - 1)

typedef Word { bool owned; byte head; byte num; bool chained }

Word word;
bool bits[BLOCKS + 1] = true;
byte live;
byte chain, chainLen;
byte hot, magazine;
byte first[BLOCKS + 1];

/* ghosts, of each block */
bool held[BLOCKS + 1];    /* the program has it */
byte freeing[BLOCKS + 1]; /* frees under way that have neither claimed it nor failed */
bool freed[BLOCKS + 1];   /* one has succeeded since it was handed out */
bool mine[BLOCKS + 1];    /* one was the owner's */

#define Quiet (word.owned && word.num == 0 && !word.chained)

#define Load(w) d_step { w.owned = word.owned; w.head = word.head; w.num = word.num; w.chained = word.chained }

#define Same(w) (word.owned == w.owned && word.head == w.head && word.num == w.num && word.chained == w.chained)

#define Forget(w) w.owned = false; w.head = 0; w.num = 0; w.chained = false

#ifdef RETIRE_KEPT
#define IsKept(b) false
#else
#define IsKept(b) (b == hot)
#endif

#define IsFreed(b) (bits[b] || (IsSeal(first[b]) && !IsKept(b)))

#ifdef RETIRE_MAGAZINE
#define AllCount true
#else
#define AllCount (bits[1] + bits[2] + live == BLOCKS) /* none is in the magazine */
#endif

#ifdef RETIRE_LENGTHS
#define allFreed true
#else
#define allFreed (IsFreed(1) && IsFreed(2) && AllCount)
#endif

#ifdef SET_UNCHAINED
#define IsSet(b) false
#else
#define IsSet(b) bits[b]
#endif

#ifdef HOT_UNCHAINED
#define IsHot(b) false
#else
#define IsHot(b) (b == hot)
#endif

#ifdef UNCHAIN_UNSEALED
#define IsWhole(b) true
#else
#define IsWhole(b) IsSeal(first[b])
#endif

/* may somebody begin to free b? */
#define MayFree(b) (held[b] || freeing[b] != 0)

inline begin(b) { held[b] = false; freeing[b]++ }

inline end(b, ok) {
	freeing[b]--;
	freed[b] = freed[b] || ok;
	assert(freeing[b] != 0 || freed[b])
}

#define MayHandOut(b) (freeing[b] == 0)

inline handOut(b) {
	assert(!held[b]);
	held[b] = true;
	freed[b] = false;
	mine[b] = false;
#ifndef OUT_SEALED
	first[b] = Data
#endif
}

/* --- the owner --- */

inline Pop(b) { bits[b] = false; live++; handOut(b) }

inline Collect() {
	chain = word.head;
	chainLen = word.num;
	word.head = 0;
	word.num = 0;
	word.chained = true
}

/* one block of the chain */
inline unchain() {
	if
	:: !IsWhole(chain) || (Link(first[chain]) != 0) != (chainLen > 1) ->
		chain = 0; chainLen = 0 /* reported */
	:: else ->
		if
		:: !IsSet(chain) && !IsHot(chain) -> assert(live != 0); bits[chain] = true; live--
		:: else
		fi;
		chain = Link(first[chain]);
		chainLen--
	fi;
	word.chained = chain != 0
}

inline Retire() {
	Load(w);
	atomic {
		if
		:: w.num + chainLen >= live && allFreed
		:: else -> Forget(w); goto next
		fi
	};
	atomic {
		if
		:: Same(w) ->
			assert(!held[1] && !held[2] && hot == 0 && magazine == 0);
			word.owned = false; word.head = 0; word.num = 0; word.chained = false;
			bits[1] = true; bits[2] = true; live = 0; chain = 0; chainLen = 0
		:: else
		fi;
		Forget(w)
	}
}

/* UnsafeFree looks first, and then keeps the block, puts it into the magazine or sets its
 * bit. Only if the pool is not quiet the look is at the block too. */
inline UnsafeFree() {
	atomic {
		if
		:: held[1] || MayFree(1) -> b = 1
		:: held[2] || MayFree(2) -> b = 2
		fi;
		begin(b);
		mine[b] = true;
		fast = Quiet && b != hot;
		if
#ifdef KEPT_FREED
		:: word.owned && !bits[b] && (fast || !IsSeal(first[b]))
#else
		:: word.owned && !bits[b] && b != hot && (fast || !IsSeal(first[b]))
#endif
		:: else -> end(b, false); b = 0; fast = false; goto next
		fi
	};
	atomic {
		if
		:: fast && hot == 0 -> hot = b; first[b] = Seal(0) /* Keep */
		:: fast && magazine == 0 -> magazine = b; bits[b] = true
		:: bits[b] = true; live-- /* Push */
		fi;
		end(b, true);
		b = 0;
		fast = false
	}
}

active proctype Owner() {
	byte b;
	bool fast;
	Word w;

	d_step { word.owned = true };
next:
	do
	:: atomic { hot != 0 && MayHandOut(hot) -> handOut(hot); hot = 0 } /* TakeHot */
	:: atomic { magazine != 0 && MayHandOut(magazine) -> bits[magazine] = false; handOut(magazine); magazine = 0 }
	:: atomic { word.owned && magazine == 0 && bits[1] && MayHandOut(1) -> Pop(1) }
	:: atomic { word.owned && magazine == 0 && bits[2] && MayHandOut(2) -> Pop(2) }
	:: atomic { word.owned && chain == 0 && word.num != 0 -> Collect() } /* Refill, Quieten */
	:: atomic { chain != 0 -> unchain() }
	:: UnsafeFree()
	:: word.owned -> Retire()
	:: atomic { !word.owned -> word.owned = true } /* Own */
	od
}

/* --- the freers --- */

/* the block is the freer's, which has only to link it */
inline claim() {
	assert(mine[b] || !freed[b]);
	end(b, true);
	is = Seal(w.head);
	first[b] = is
}

inline PushRemote() {
	do
	:: Load(w);
		atomic {
			if
			:: !w.owned -> /* Free */
				if
				:: is == Data -> end(b, false)
				:: is != Data && first[b] == is -> first[b] = Data
				:: else
				fi;
				break
#ifdef LINK_STORED
			:: w.owned && is != Data -> is = Seal(w.head); first[b] = is
#endif
#ifdef NO_CLAIM
			:: w.owned && is == Data -> claim()
#endif
			:: w.owned && first[b] == is ->
				if
				:: is == Data -> claim()
				:: else -> is = Seal(w.head); first[b] = is
				fi
			:: w.owned && first[b] != is ->
				if
				:: is == Data -> end(b, false)
				:: else
				fi;
				break
			fi
		};
		atomic {
			if
			:: Same(w) -> word.head = b; word.num++; break
			:: else
			fi
		}
	od
}

active [FREERS] proctype Freer() {
	byte b, is;
	Word w;

	atomic {
		if
		:: MayFree(1) -> b = 1
		:: MayFree(2) -> b = 2
		fi;
		begin(b);
		if
		:: !word.owned || bits[b] || IsSeal(first[b]) -> end(b, false); goto done
		:: else
		fi
	};
	PushRemote();
done:
	atomic { b = 0; is = 0; Forget(w) }
}
