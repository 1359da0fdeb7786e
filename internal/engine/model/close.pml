/*
 * close: Close against fast paths, slow paths that are under way, and Release (engine: View,
 * Open, begin, end, quiet, enter, pop, install, newShard, forget, NewHeap, Release, bury,
 * Close, funeral).
 *
 * States. closed; view, which tells fast paths that there are slots; the slot of a P, with
 * shard 1 or 2 or none; shard 3 is a Heap's. Of each shard: mode, whether it is marked
 * closed, whether it is in the list, and the Heap's claim. taken tells that Close has taken
 * the list, which mu guards. under are the counters of slow paths. word is that of the
 * headers, mapped whether the pages are there.
 *
 * Who makes the transitions. Two goroutines, which take turns on the P and have the life in
 * hand, closed or not: malloc on the fast path; pop, the section before a refill, which is
 * counted nowhere; a refill or scatter, which works outside of sections and in one, and
 * installs a shard where there is none. The Heap's goroutine: a call on the fast path, a slow
 * path, and in the end Release. A goroutine that asks for the size of a block of any life
 * (UsableSize). Close, and then funeral, which unmaps.
 *
 * Proved. A live header is cleared, and a shard's memory freed, when no section and no slow
 * path of the life uses it; a page is unmapped when nobody at all does. Each shard is freed
 * once, and in the end all are.
 *
 * Each twin lacks a guard, and fails:
 *
 *	COUNT_LATE     a slow path looks whether the life is closed, and counts itself then
 *	OTHER_COUNTER  it takes itself off another counter than it has added itself to
 *	NO_SUM         Close does not wait for slow paths
 *	NO_GRACE       it does not wait for sections
 *	NO_AWAIT       it does not wait for the section of the Heap
 *	NO_MODE        it does not mark the shards as closed
 *	VIEW_LATE      it clears the view after the grace period
 *	POP_BLIND      a section that is counted nowhere takes the life's slot, closed or not
 *	UNMAP_EARLY    the pages are unmapped without a grace period
 *	CLEAR_LATE     the headers are cleared after the pages were unmapped
 *	NEW_UNCHECKED  newShard does not look whether the life is closed
 *	FORGET_TAKEN   who takes a shard off the list does not look whether Close has it
 *	RELEASE_BLIND  Release beside Close frees the shard without the claim word
 *
 * Abstracted. A grace period is the moment at which a section is not under way, one after
 * the other (claim.pml has the record and the barrier). Two counters, which are read one after
 * the other. Claimants wait for Close and Close for them (trimming). Close drains no
 * magazine: the blocks go with their pages.
 *
 * Seen: 3,100,000 states.
 */

#define HEAP 3

/* Claim */
#define Free 0
#define Released 1
#define Dead 2

bool closed, taken;
bool view = true;
byte slot;
byte claim; /* of the Heap's shard */
bool mode[4], listed[4];
short under[2];
bool word = true, mapped = true;

/* sections under way: on the P, of the Heap, of UsableSize */
bool running, heapRuns, looking;

/* ghosts */
bool memory[4]; /* of the shards */
byte done;

inline freeShard(s) { d_step { assert(memory[s]); memory[s] = false; s = 0 } }

#define Enter() atomic { !running -> running = true }
#define Exit() d_step { running = false; s = 0; usable = false }

/* use looks at the mode of the shard, and uses its magazines and their blocks then. */
inline use(s) {
	d_step { assert(memory[s]); usable = !mode[s] };
	if
	:: usable -> assert(memory[s] && word && mapped)
	:: else
	fi
}

/* what a slow path does outside of sections: Take, Give, Seal */
inline work() { assert(word && mapped) }

inline begin() {
#ifdef COUNT_LATE
	ok = !closed;
	if
	:: ok -> under[n]++
	:: else
	fi
#else
	under[n]++;
	ok = !closed;
	if
	:: !ok -> end()
	:: else
	fi
#endif
}

#ifdef OTHER_COUNTER
#define Other(n) (1 - n)
#define MaySlow (under[1 - n] > -3) /* or there would be no end of states */
#else
#define Other(n) n
#define MaySlow true
#endif

inline end() { under[Other(n)]-- }

#ifdef NEW_UNCHECKED
#define NoMore false
#else
#define NoMore closed
#endif

/* newShard leaves a shard, or 0, in s. */
inline newShard(first) {
	d_step { /* under mu */
		s = (NoMore -> 0 : (memory[first] -> first + 1 : first));
		if
		:: s != 0 -> assert(!memory[s]); memory[s] = true; listed[s] = true; mode[s] = false
		:: else
		fi
	}
}

#ifdef FORGET_TAKEN
#define IsTaken false
#else
#define IsTaken taken
#endif

/* forget takes s off the list, and leaves in ok whether it was there. */
inline forget(s) {
	d_step { /* under mu */
		ok = !IsTaken;
		if
		:: ok -> listed[s] = false
		:: else
		fi
	}
}

inline install() {
	newShard(1);
	if
	:: s != 0 ->
		atomic {
			if
			:: slot == 0 -> slot = s; s = 0
			:: else
			fi
		};
		if
		:: s != 0 ->
			forget(s);
			if
			:: ok -> freeShard(s)
			:: else -> s = 0 /* Close frees it */
			fi
		:: else
		fi
	:: else
	fi
}

/* malloc on the fast path, and pop */
inline fast() {
	Enter();
	if
	:: view -> s = slot
	:: !closed -> s = slot
#ifdef POP_BLIND
	:: true -> s = slot
#endif
	:: else
	fi;
	if
	:: s != 0 -> use(s)
	:: else
	fi;
	Exit()
}

/* refill, or freeBlock and scatter */
inline slow() {
	begin();
	if
	:: ok ->
		work();
		Enter();
		s = slot;
		if
		:: s != 0 -> use(s); Exit()
		:: else -> Exit(); install()
		fi;
		d_step { ok = false; end() }
	:: else
	fi
}

proctype Goroutine(byte n) {
	byte s;
	bool usable, ok;

	do
	:: true -> fast()
	:: MaySlow -> slow()
	:: closed -> break
	od;
	done++
}

/* Whoever comes second, Release or Close, frees the shard. */
inline second() {
#ifdef RELEASE_BLIND
	freeShard(s)
#else
	atomic {
		if
		:: claim == Free -> claim = Released; s = 0
		:: else
		fi
	};
	if
	:: s != 0 -> freeShard(s)
	:: else
	fi
#endif
}

inline Release() {
	begin();
	if
	:: ok ->
		forget(s);
		if
		:: ok -> work(); freeShard(s) /* bury */
		:: else -> second()
		fi;
		end()
	:: else -> second()
	fi
}

inline heapCall() {
	heapRuns = true;
	use(s);
	d_step { heapRuns = false; usable = false }
}

proctype Heap(byte n) {
	byte s;
	bool usable, ok;

	/* NewHeap */
	begin();
	if
	:: ok -> newShard(HEAP); end()
	:: else
	fi;
	if
	:: s != 0 ->
		do
		:: true -> heapCall()
		:: MaySlow ->
			begin();
			if
			:: ok -> work(); heapCall(); d_step { ok = false; end() }
			:: else
			fi
		:: true -> break
		od;
		Release()
	:: else
	fi;
	done++
}

proctype UsableSize() {
	bool w;

endless:
	do
	:: d_step { looking = true; w = word }; /* release.pml has more of it */
		d_step { assert(!w || mapped); looking = false; w = false }
	od
}

/* bury frees a shard that Close has found in the list */
inline bury(s, i) {
	s = i;
	if
	:: all[i] ->
		assert(memory[s]);
		if
		:: s == HEAP ->
			atomic {
				if
				:: claim == Free -> claim = Dead; s = 0
				:: else
				fi
			}
		:: else
		fi;
		if
		:: s != 0 -> freeShard(s)
		:: else
		fi
	:: else
	fi
}

inline funeral() {
#ifndef UNMAP_EARLY
	!running;
	!looking;
#endif
	mapped = false
}

proctype Close() {
	short sum;
	bool all[4];
	byte s;

	closed = true;
#ifndef VIEW_LATE
	view = false;
#endif
	d_step { /* under mu */
		taken = true;
		all[1] = listed[1]; all[2] = listed[2]; all[3] = listed[3]
	};
#ifndef NO_MODE
	d_step { mode[1] = all[1]; mode[2] = all[2] };
	mode[3] = all[3];
#endif
#ifndef NO_GRACE
	!running;
#endif
#ifndef NO_AWAIT
	!heapRuns;
#endif
#ifdef VIEW_LATE
	view = false;
#endif
#ifndef NO_SUM
	do
	:: sum = under[0]; /* quiet */
		sum = sum + under[1];
		if
		:: sum == 0 -> break
		:: else -> sum = 0
		fi
	od;
#endif
	bury(s, 1);
	bury(s, 2);
	bury(s, 3);
#ifdef CLEAR_LATE
	funeral();
	word = false;
#else
	word = false;
	funeral();
#endif
	done == 3;
	assert(!memory[1] && !memory[2] && !memory[3] && under[0] + under[1] == 0)
}

init {
	atomic {
		run Goroutine(0);
		run Goroutine(1);
		run Heap(0);
		run UsableSize();
		run Close()
	}
}
