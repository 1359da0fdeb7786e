/*
 * release: an arena is given back while bad pointers into it are freed (packages
 * arena, addrmap, grace and shard).
 *
 * States. entry is the arena map's entry, mapped whether the pages are there, listed
 * whether the arena is in the set's lists, taken whether a pool of it is handed out;
 * retired and refused as in the diagram of package arena.
 *
 * Who makes the transitions. The lock's holder: TakePool, which maps the arena if
 * there is none (or puts one to use whose unmapping was refused), and PutNumber.
 * Trim: Retire under the lock, which takes a free arena out of lists and map; then
 * wait: a grace period, and until the Heap is not busy; then unmap, without the lock,
 * which the system may refuse; Retry, which unmaps what was refused. Of a bad pointer: UnsafeFree, SizeOf and UsableSize,
 * pinned; Heap.UnsafeFree, marked busy by a plain store that waits in a store
 * buffer; PutRun, under the lock. They look the pointer up and then touch the
 * header.
 *
 * Proved. No header is touched that is not mapped, and no pool is handed out of an
 * arena that is on its way out.
 *
 * Abstracted. One arena, at the same address again each time; one pool. Wait is
 * the moment at which nobody is pinned and all stores are flushed (see swap.pml).
 *
 * Left out: take, give, takeHuge, keepHuge, which count the bytes of kept addresses
 * for statistics.
 *
 * Seen: 42,000 states.
 */

bool entry, mapped, listed, taken;
bool refused;
bool retired; /* ghost: by Trim, until it is unmapped or refused */
bool locked;
byte pinned;
bool busy;

#define BEGIN 1
#define END 2
chan buffer = [2] of { byte };

#define lock() atomic { !locked -> locked = true }
#define unlock() locked = false

/* touch reads or writes a header of the arena */
#define touch() assert(mapped)

/* UnsafeFree and others: twice, so that two are pinned at times */
active [2] proctype Pinned() {
	bool e;

	do
	:: /* Enter, Load */
#ifdef LOOKUP_FIRST
		e = entry;
		pinned++;
#else
		pinned++;
		e = entry;
#endif
		if
		:: e -> touch(); touch()
		:: else
		fi;
		atomic { pinned--; e = false } /* Exit */
	od
}

active proctype HeapFree() {
	bool e;

	do
	:: buffer!BEGIN;
		e = entry;
		if
		:: e -> touch(); touch()
		:: else
		fi;
		atomic { buffer!END; e = false }
	od
}

inline flush_one() {
	if
	:: buffer?BEGIN -> busy = true
	:: buffer?END -> busy = false
	fi
}

active proctype Flush() {
	do
	:: atomic { flush_one() }
	od
}

active proctype PutRun() {
	do
	:: lock();
		if
		:: entry -> touch()
		:: else
		fi;
		unlock()
	od
}

/* while another arena is retired it takes other addresses */
inline mapArena() {
	if
	:: refused -> refused = false
	:: else -> mapped = true
	fi;
	entry = true;
	listed = true
}

inline unmap() {
	if
	:: atomic { mapped = false; retired = false }
	:: /* refused by the system */
		lock();
		retired = false;
		refused = true;
		unlock()
	fi
}

active proctype User() {
	do
	:: lock();
		/* TakePool */
		if
		:: listed
		:: !listed && (refused || !mapped) -> mapArena()
		:: else
		fi;
		if
		:: listed ->
			touch();
			assert(!retired);
			taken = true;
			unlock();
			touch(); /* who holds a pool may touch it at any time */
			lock();
			/* PutNumber */
			touch();
			taken = false
		:: else
		fi;
		unlock()
	od
}

inline Wait() {
#ifdef NO_GRACE
	skip
#else
	atomic {
		pinned == 0;
		do
		:: nempty(buffer) -> flush_one()
		:: empty(buffer) -> break
		od
	}
#endif
}

inline await() {
#ifdef NO_AWAIT
	skip
#else
	!busy
#endif
}

active proctype Trim() {
	do
	:: /* Retire */
		lock();
		if
		:: listed && !taken ->
			retired = true;
#ifndef KEEP_LISTED
			listed = false;
#endif
#ifndef CLEAR_LATE
			entry = false; /* leave */
#endif
			unlock();
			Wait();
			await();
			unmap();
#ifdef CLEAR_LATE
			entry = false
#endif
		:: else -> unlock()
		fi
	:: /* Retry: it was out of the map before the last Wait */
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
