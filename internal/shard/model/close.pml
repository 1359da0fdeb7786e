/*
 * close: Close against slow paths that are under way, and the next life of the
 * allocator (packages shard, arena and pymalloc).
 *
 * States. table is the allocator's table, numbered by lives, 0 if none. Of each
 * life: closed (the table's), arenasClosed (the set's), heaps (a map, nil after
 * Close). view is what the fast path reads: n, the life it is for, and the slot,
 * whose shard may own a pool. memory is the life whose arena is mapped, at the
 * same address in all lives.
 *
 * Who makes the transitions. Two goroutines, which load the table, or open the
 * next life, and make one of the calls: UnsafeMalloc on the fast path; Alloc with
 * provide (TakePool, enter, Own, exit; or install); UnsafeFree on the fast path,
 * with Trip (exit, PutChain); a slow free (enter, exit, drainFreepools with
 * PutNumber); NewHeap with a call on the heap (begin, end) and its Release. The
 * closer: Close, of each life.
 *
 * Proved. The arena of a life is touched only while it is mapped, and never as
 * that of another life. A slot or the view of a life is used by nobody of another.
 * After a Close nothing of that life is mapped any more, or gets mapped again.
 *
 * Abstracted. One slot; the goroutines take turns in it (they are pinned on one P).
 * Wait is the moment at which nobody is pinned; the Heap's mark is visible at once
 * (see swap.pml). A lock is a flag per life, the shards' own lock one step.
 *
 * Seen: 1,500,000 states.
 */

#ifndef LIVES
#define LIVES 3
#endif

byte table; /* Allocator.table */
bool opening; /* Allocator.mu */
byte lives;
byte done;
byte memory;

bool closed[LIVES + 1], arenasClosed[LIVES + 1], heapsNil[LIVES + 1];
bool mu[LIVES + 1];       /* Table.mu */
bool arenasMu[LIVES + 1]; /* arena.Set.mu */
bool entry[LIVES + 1];    /* the arena map has the life's entry */

/* View; life stands for its entry, slots, mask and table */
byte view_n, view_life;
bool slot; /* of the view's life: has a shard */
bool owns; /* that shard owns a pool */

bool running; /* somebody is pinned on the P */
bool heapBusy[2], heapShard[2];
byte heapOf[2]; /* in the heaps of this life */

#define lock(m) atomic { !m -> m = true }
#define unlock(m) m = false

/* touch reads or writes a header in the arena of life t */
#define touch(t) assert(memory == t)

#define Enter() atomic { !running -> running = true }
#define Exit() running = false

#ifdef NO_RECHECK
#define Closed(t) false
#else
#define Closed(t) closed[t]
#endif

#ifdef INSTALL_UNCHECKED
#define ClosedAtInstall(t) false
#else
#define ClosedAtInstall(t) closed[t]
#endif

#ifdef TAKE_UNCHECKED
#define ClosedAtTake(t) false
#else
#define ClosedAtTake(t) arenasClosed[t]
#endif

#ifdef PUT_UNCHECKED
#define ClosedAtPut(t) false
#else
#define ClosedAtPut(t) arenasClosed[t]
#endif

#ifdef NEWHEAP_UNCHECKED
#define ClosedAtNewHeap(t) false
#else
#define ClosedAtNewHeap(t) closed[t]
#endif

/* enter leaves in ok whether the table is open, in s whether there is a shard */
inline enter() {
	Enter();
	if
	:: Closed(t) -> Exit(); ok = false
	:: else ->
		ok = true;
		/* Take */
		if
		:: view_n != 0 ->
			assert(view_life == t);
			s = slot
		:: else -> s = false
		fi
	fi
}

inline install() {
	lock(mu[t]);
	if
	:: ClosedAtInstall(t) -> ok = false
	:: else ->
		assert(view_life == t);
		slot = true
	fi;
	unlock(mu[t])
}

inline TakePool() {
	lock(arenasMu[t]);
	if
	:: ClosedAtTake(t) -> ok = false
	:: else ->
		/* mapArena, if need be */
		if
		:: memory == 0 -> memory = t; entry[t] = true
		:: else
		fi;
		touch(t);
		ok = true
	fi;
	unlock(arenasMu[t])
}

/* PutChain and PutNumber */
inline Put() {
	lock(arenasMu[t]);
	if
	:: ClosedAtPut(t)
	:: else -> touch(t); touch(t)
	fi;
	unlock(arenasMu[t])
}

inline Alloc() {
	TakePool();
	if
	:: ok ->
		enter();
		if
		:: ok && s -> touch(t); owns = true; Exit() /* Own, acquire */
		:: ok && !s ->
			Exit();
			Put();
			install()
		:: else
		fi
	:: else
	fi
}

/* UnsafeMalloc on the fast path: no look at the arena map */
inline MallocFast() {
	Enter();
	if
	:: view_n != 0 && slot && owns ->
		t = view_life;
		touch(t)
	:: else
	fi;
	Exit()
}

/* UnsafeFree on the fast path, with Trip */
inline FreeFast() {
	Enter();
	if
	:: view_n != 0 && slot ->
		t = view_life;
		if
		:: entry[t] ->
			touch(t);
			t = view_life; /* View.Table, for Trip */
			touch(t);
			Exit();
			Put() /* the outbox */
		:: else -> Exit()
		fi
	:: else -> Exit()
	fi
}

inline FreeSlow() {
	enter();
	if
	:: ok ->
		if
		:: entry[t] ->
			touch(t);
			touch(t);
			Exit();
			Put() /* drainFreepools */
		:: else -> Exit()
		fi
	:: else
	fi
}

inline NewHeap() {
	lock(mu[t]);
	if
	:: ClosedAtNewHeap(t) -> ok = false
	:: else ->
		assert(view_life == t && !heapsNil[t]);
		heapOf[g] = t;
		heapShard[g] = true;
		ok = true
	fi;
	unlock(mu[t])
}

inline Release() {
	atomic {
		!mu[t] -> heapOf[g] = 0;
		heapShard[g] = false
	}
}

inline HeapCall() {
	heapBusy[g] = true; /* begin */
	if
	:: heapShard[g] ->
		if
		:: entry[t] -> touch(t); touch(t)
		:: else
		fi
	:: else
	fi;
	heapBusy[g] = false; /* end */
	Release()
}

inline Open() {
	t = table;
	if
	:: t != 0
	:: else ->
		lock(opening);
		if
		:: table != 0
		:: table == 0 && lives < LIVES ->
			lives++;
			view_life = lives;
			view_n = 1;
			table = lives
		:: else
		fi;
		t = table;
		unlock(opening)
	fi
}

active [2] proctype Goroutine() {
	byte g = _pid;
	byte t;
	bool s, ok;

	do
	:: table != 0 || lives < LIVES ->
		Open();
		if
		:: t == 0
		:: t != 0 -> Alloc()
		:: t != 0 -> FreeSlow()
		:: t != 0 ->
			NewHeap();
			if
			:: ok -> HeapCall()
			:: else
			fi
		:: MallocFast()
		:: FreeFast()
		fi;
		atomic { t = 0; s = false; ok = false }
	:: table == 0 && lives == LIVES -> break
	od;
	done++
}

#ifdef NO_GRACE
#define Wait() skip
#else
#define Wait() !running
#endif

active proctype Close() {
	byte t;

	do
	:: lock(opening);
		t = table;
		table = 0;
		if
		:: t != 0 ->
			/* Table.Close */
			closed[t] = true;
			lock(mu[t]);
#ifndef N_LATE
			view_n = 0;
#endif
			heapsNil[t] = true;
			d_step {
				heapShard[0] = (heapOf[0] == t -> false : heapShard[0]);
				heapShard[1] = (heapOf[1] == t -> false : heapShard[1])
			};
			unlock(mu[t]);
			/* Set.Close */
			lock(arenasMu[t]);
			arenasClosed[t] = true;
			entry[t] = false;
			unlock(arenasMu[t]);
			Wait();
#ifndef NO_AWAIT
			!heapBusy[0] && !heapBusy[1];
#endif
			/* Unmap */
			assert(memory == 0 || memory == t);
			memory = 0;
			d_step { slot = false; owns = false };
#ifdef N_LATE
			view_n = 0;
#endif
			t = 0
		:: else
		fi;
		unlock(opening)
	:: table == 0 && lives == LIVES && !opening -> break
	od;
	/* all others are done */
	done == 2;
	assert(memory == 0)
}
