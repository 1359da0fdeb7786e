/*
 * claim: a shard's magazines between the sections of its user and a claimant (engine: pop,
 * refill, freeBlock, scatter, claim, drain, newShard, Release, bury; package pin: Begin, End,
 * Barrier, Over, Wait; package shard: Mode, Claim, Peek, Room, Put, Flush).
 *
 * States. seq is the shard's record, odd while a section is under way; claimed the bit of
 * Mode; claim the word; listed whether the shard is in the list, which mu guards; magazine
 * the number of blocks in it. pools has the free blocks that are in no magazine. What the
 * user's processor stores plainly, seq and magazine, waits in a store buffer.
 *
 * Who makes the transitions. The user, a P or a Heap's goroutine, without end: a malloc, on
 * the fast path or by a refill, which puts what it has too much into the magazine in a
 * second section; a free, on the fast path or by a scatter; or Release, and then a new shard
 * in the same memory. A section that finds the shard claimed leaves the magazine alone, and
 * its call goes on without. The claimant, without end: it claims the shard, passes the
 * barrier, waits for the section that may be under way, or leaves the shard for later;
 * drains the magazine; and gives the shard back, or buries it if it was released meanwhile.
 *
 * Proved. The magazine never has two users, and the next sees what the last has written: no
 * block is lost, and none is twice in magazine, pools, a hand or the program. Nobody touches
 * a shard whose memory was freed, or is another shard's by now, and it is freed once.
 *
 * Each twin lacks a guard, and fails:
 *
 *	NO_BARRIER      the claimant passes no barrier
 *	BARRIER_LATE    it looks at the record first
 *	NO_WAIT         it does not wait for the section
 *	MODE_EARLY      a section looks at the mode before its record is odd
 *	MODE_LATE       it looks at the magazine first, and at the mode then
 *	MODE_KEPT       a refill puts in by what its first section has seen
 *	RELEASE_BESIDE  Release frees the shard, whether it is claimed or not
 *	CLAIM_UNLISTED  the claimant claims after it has given up the list's lock
 *	UNCLAIM_EARLY   it gives up the claim before it has cleared the mode
 *	PLAIN_END       the record becomes even by a plain store, on processors with WEAK
 *
 * Abstracted. Barrier is one moment, at which the user's processor has an empty buffer. The
 * buffer is that of x86, first in, first out; with WEAK stores to different words become
 * visible in any order, as on arm64, and End waits for the stores before it. Loads are not
 * reordered, for Mode is loaded atomically. The record counts modulo 4: the claimant may wait
 * longer, never shorter. One class, one magazine; there is one claimant at a time (trimming).
 *
 * Seen: 210,000 states.
 */

#ifdef PLAIN_END
#define WEAK
#endif

#define BLOCKS 3
#define CAP 2

/* Claim */
#define Free 0
#define Taken 1
#define Released 2

byte seq, magazine;
bool claimed;
byte claim;
bool listed = true;
bool mu;
byte pools = BLOCKS;

/* the store buffer: a section's number, or what is in the magazine */
#define BUFFER 3
#define Record 10
chan buffer = [BUFFER] of { byte };
#ifdef WEAK
chan dataBuffer = [1] of { byte };
#define Data dataBuffer
#define isFlushed (empty(buffer) && empty(dataBuffer))
#define isPending (nempty(buffer) || nempty(dataBuffer))
#else
#define Data buffer
#define isFlushed empty(buffer)
#define isPending nempty(buffer)
#endif

byte mySeq, out, hand; /* the user's: out are the program's blocks */
byte theirs;           /* the claimant's hand */

/* ghosts */
bool memory = true;  /* of the shard */
bool using;          /* somebody uses the magazine */
bool has;            /* the claimant has the shard */
byte pending, last;  /* stores to the magazine in the buffer, and the last of them */

#define lock() atomic { !mu -> mu = true }
#define unlock() mu = false

#define touch() assert(memory)

#define Mine (pending > 0 -> last : magazine)

inline check() { assert(out + hand + theirs + pools + Mine == BLOCKS) }

inline use() { touch(); assert(!using); using = true }
inline unuse() { using = false; check() }

inline flushOne() {
	if
	:: buffer?x ->
		if
		:: x >= Record -> seq = x - Record
#ifndef WEAK
		:: x < Record -> magazine = x; pending--
#endif
		fi
#ifdef WEAK
	:: dataBuffer?x -> magazine = x; pending--
#endif
	fi;
	x = 0
}

active proctype Flush() {
	byte x;

endless:
	do
	:: atomic { isPending -> flushOne() }
	od
}

/* --- the user --- */

inline store(n) { Data!n; pending++; last = n }

inline nextSeq() { mySeq = (mySeq + 1) % 4; buffer!(Record + mySeq) }

inline begin() {
#ifdef MODE_EARLY
	usable = !claimed;
#endif
	atomic { touch(); nextSeq() };
#ifdef MODE_LATE
	n = Mine;
	usable = !claimed
#else
#ifndef MODE_EARLY
	usable = !claimed;
#endif
	d_step {
		if
		:: usable -> n = Mine
		:: else -> n = CAP + 1
		fi
	}
#endif
}

inline end() {
#if defined(WEAK) && !defined(PLAIN_END)
	empty(dataBuffer);
#endif
	atomic { nextSeq(); n = 0; usable = false }
}

/* scatter gives the blocks in hand to pools */
inline scatter() { d_step { pools = pools + hand; hand = 0; check() } }

inline malloc() {
	begin();
	if
	:: usable && n > 0 ->
		use();
		atomic { store(n - 1); out++; unuse() };
		end()
	:: else ->
		kept = usable;
		end();
		/* refill */
		if
		:: pools > 0 ->
			atomic {
				if
				:: hand = 1
				:: pools > 1 -> hand = 2
				fi;
				pools = pools - hand
			};
			if
			:: hand > 1 ->
				begin();
#ifdef MODE_KEPT
				d_step { usable = kept; n = Mine };
#endif
				if
				:: usable && n < CAP ->
					use();
					atomic { store(n + 1); hand--; unuse() }
				:: else
				fi;
				end()
			:: else
			fi;
			d_step { out++; hand--; check() };
			if
			:: hand > 0 -> scatter()
			:: else
			fi
		:: else
		fi
	fi;
	kept = false
}

inline free() {
	begin();
	if
	:: usable && n < CAP ->
		use();
		atomic { store(n + 1); out--; unuse() };
		end()
	:: usable && n == CAP -> /* Flush */
		use();
		atomic { store(0); hand = 1 + n; out--; unuse() };
		end();
		scatter()
	:: else ->
		d_step { hand = 1; out-- };
		end();
		scatter()
	fi
}

/* bury drains the shard, and frees it */
inline bury() {
	d_step { use(); pools = pools + magazine; magazine = 0; unuse() };
	d_step { touch(); memory = false; claim = 0; seq = 0 }
}

inline Release() {
	lock();
	isFlushed;
	listed = false;
	unlock();
#ifdef RELEASE_BESIDE
	bury();
#else
	atomic {
		touch();
		if
		:: claim == Free -> claim = Taken; won = true
		:: else
		fi
	};
	if
	:: !won ->
		atomic {
			touch();
			if
			:: claim == Taken -> claim = Released
			:: else -> won = true
			fi
		}
	:: else
	fi;
	if
	:: won -> assert(!has); bury()
	:: else
	fi;
#endif
	won = false;
	/* newShard, when the memory is used again */
	atomic { !memory && !mu -> memory = true; listed = true; mySeq = 0 }
}

active proctype User() {
	byte n;
	bool usable, kept, won;

endless:
	do
	:: true -> malloc()
	:: out > 0 -> free()
	:: true -> Release()
	od
}

/* --- the claimant --- */

inline Barrier() {
#ifndef NO_BARRIER
	atomic {
		do
		:: isPending -> flushOne()
		:: isFlushed -> break
		od
	}
#else
	skip
#endif
}

/* Over */
inline look() { d_step { touch(); was = seq } }

inline settle() {
#ifdef NO_WAIT
	over = true
#else
	if
	:: was % 2 == 0 || seq != was -> over = true
	:: true -> over = false /* it takes long: the shard is left for later */
	fi
#endif
}

inline take() {
	d_step {
		touch();
		if
		:: claim == Free -> claim = Taken; has = true
		:: else
		fi
	};
	if
	:: has -> d_step { touch(); claimed = true }
	:: else
	fi
}

active proctype Claimant() {
	byte was, x;
	bool over;

endless:
	do
	:: lock();
		if
		:: listed ->
#ifdef CLAIM_UNLISTED
			unlock();
			take();
			lock()
#else
			take()
#endif
		:: else
		fi;
		unlock();
		if
		:: has ->
#ifdef BARRIER_LATE
			look();
			Barrier();
#else
			Barrier();
			look();
#endif
			settle();
			if
			:: over ->
				use();
				d_step { theirs = magazine; magazine = 0 };
				d_step { unuse() };
				d_step { pools = pools + theirs; theirs = 0; check() }
			:: else
			fi;
#ifndef UNCLAIM_EARLY
			d_step { touch(); claimed = false };
#endif
			d_step {
				touch();
				if
				:: claim == Taken -> claim = Free; has = false
				:: else
				fi
			};
#ifdef UNCLAIM_EARLY
			d_step { touch(); claimed = false };
#endif
			if
			:: has -> assert(claim == Released); has = false; bury()
			:: else
			fi;
			d_step { was = 0; over = false }
		:: else
		fi
	od
}
