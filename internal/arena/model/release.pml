/*
 * release: an arena is given back while bad pointers into it are freed (package arena: Take,
 * Put, PutRun, Retire, Unmap, Retry; engine: Free, UsableSize, sweep, trim, unmap; package pin:
 * Begin, End, Barrier, Over).
 *
 * States. word is that of the header of the arena's one unit, a pool: 0 if it is free;
 * mapped tells whether the pages are there, listed whether the arena is in the set's lists,
 * used whether the unit is handed out, stacked whether the pool is on usedpools. retired and
 * refused are as in the diagram of package arena. The set's lock guards listed and used. Of
 * each of two sections: its record, odd while it is under way, whose stores wait in a store
 * buffer.
 *
 * Who makes the transitions. Sections, of a P or of a Heap, without end, which look a pointer
 * up, good or bad, and touch the unit's page if the word is live: frees, and UsableSize. The
 * user, which takes the pool from usedpools, or the unit from the arena, which is mapped if
 * there is none (or put to use again if its unmapping was refused); formats it; and pushes
 * it. A sweep, which finds the pool empty and gives it back. PutRun, which looks a run up and
 * touches it under the lock. Trim, which retires the arena if all of it is free, waits a
 * grace period, or leaves the arena for later, and unmaps it, which the system may refuse;
 * and tries again what was refused.
 *
 * Proved. No page is touched that is not mapped. No pool is handed out of an arena that is
 * on its way out.
 *
 * Each twin lacks a guard, and fails:
 *
 *	NO_GRACE      the arena is unmapped at once
 *	NO_BARRIER    Trim looks at the records without a barrier before
 *	NO_WAIT       it does not wait for the sections
 *	LOOKUP_FIRST  a section looks at the word before its record is odd
 *	CLEAR_LATE    the word is cleared when the arena was unmapped, not by Put
 *	WORD_LATE     a refill writes the word, for another home, when its hand has ended
 *	KEEP_LISTED   a retired arena stays in the lists
 *	RETRY_SHARED  what is being unmapped again stays among the refused, to be put to use
 *
 * Abstracted. One arena, of one unit, at the same address again each time; which pool is
 * empty is in count.pml. Each record counts modulo 4: Trim may wait longer, never shorter.
 *
 * Left out: take, give, takeHuge, keepHuge, which count the bytes of kept addresses
 * for statistics.
 *
 * Seen: 900,000 states.
 */

bool word, mapped, listed, used, stacked;
bool refused;
bool locked;

bool retired; /* ghost: by Trim, until it is unmapped or refused */

#define SECTIONS 2
byte seq[SECTIONS];
chan buffer[SECTIONS] = [2] of { byte }; /* stores to seq that are not visible yet */

#define lock() atomic { !locked -> locked = true }
#define unlock() locked = false

/* touch reads or writes a page of the arena. */
#define touch() assert(mapped)

active [SECTIONS] proctype Section() {
	byte me = _pid, n;
	bool w;

	do
	::
#ifdef LOOKUP_FIRST
		w = word;
#endif
		atomic { n = (n + 1) % 4; buffer[me]!n }; /* Begin */
#ifndef LOOKUP_FIRST
		w = word;
#endif
		if
		:: w -> touch()
		:: else
		fi;
		atomic { n = (n + 1) % 4; buffer[me]!n; w = false } /* End */
	od
}

inline flushOne(i) { buffer[i]?x; seq[i] = x; x = 0 }

active proctype Flush() {
	byte x;

	do
	:: atomic { nempty(buffer[0]) -> flushOne(0) }
	:: atomic { nempty(buffer[1]) -> flushOne(1) }
	od
}

active proctype PutRun() {
	do
	:: lock();
		if
		:: word -> touch()
		:: else
		fi;
		unlock()
	od
}

/* While another arena is retired it takes other addresses. */
inline mapArena() {
	d_step {
		refused = false;
		mapped = true;
		listed = true
	}
}

/* Take leaves in has whether it got the unit. */
inline Take() {
	lock();
	if
	:: !listed && (refused || !mapped) -> mapArena()
	:: else
	fi;
	if
	:: listed && !used -> assert(!retired); used = true; has = true
	:: else
	fi;
	unlock()
}

active proctype User() {
	bool has;

	do
	:: atomic { stacked -> stacked = false }; /* popPool */
		touch();
#ifndef WORD_LATE
		word = true; /* another home */
#endif
		touch();
		stacked = true; /* push */
#ifdef WORD_LATE
		word = true
#endif
	:: !used ->
		Take();
		if
		:: has ->
			touch();
			word = true; /* Format */
			touch();
			stacked = true
		:: else
		fi;
		has = false
	od
}

active proctype Sweep() {
	do
	:: atomic { stacked -> stacked = false };
		if
		:: true -> /* it is empty */
			/* Put */
			lock();
#ifndef CLEAR_LATE
			word = false;
#endif
			assert(!retired);
			used = false;
			unlock()
		:: stacked = true
		fi
	od
}

inline unmap() {
	if
	:: d_step { mapped = false; retired = false }
	:: /* refused by the system */
		lock();
		d_step { retired = false; refused = true };
		unlock()
	fi
}

/* Barrier is passed by one processor after the other. */
inline Barrier(i) {
#if !defined(NO_BARRIER) && !defined(NO_GRACE)
	atomic {
		do
		:: nempty(buffer[i]) -> flushOne(i)
		:: empty(buffer[i]) -> break
		od
	}
#else
	skip
#endif
}

/* Over leaves in over whether all sections are over. */
inline Over(i) {
#if !defined(NO_WAIT) && !defined(NO_GRACE)
	was = seq[i];
	if
	:: was % 2 == 0 || seq[i] != was
	:: over = false
	fi;
	was = 0
#else
	skip
#endif
}

active proctype Trim() {
	byte was, x;
	bool over;

	do
	:: /* Retire */
		lock();
		if
		:: listed && !used ->
			retired = true;
#ifndef KEEP_LISTED
			listed = false;
#endif
			unlock();
			do /* until it is not left for later */
			:: over = true;
				Barrier(0);
				Barrier(1);
				Over(0);
				Over(1);
				if
				:: over -> break
				:: else
				fi
			od;
			over = false;
			unmap();
#ifdef CLEAR_LATE
			word = false
#endif
		:: else -> unlock()
		fi
	:: /* Retry: its word was cleared before the last grace period */
		lock();
		if
		:: refused ->
#ifndef RETRY_SHARED
			refused = false;
#endif
			retired = true;
			unlock();
			unmap()
		:: else -> unlock()
		fi
	od
}
