/*
 * grow: an array that grows while others read it.
 *
 * States. Regions of addresses are numbered from 1; memory[r] is how many elements
 * of region r are backed by memory. directory[i] is the region of segment i, 0 for
 * none; length (len in the code) is the word that readers look at. last is the region
 * of the segment that grows, and filled is what its segment counts as committed.
 *
 * Who makes the transitions. Two growers, under the caller's lock: Reserve and
 * Commit, then the directory, then the length. Commit may be refused. Two readers,
 * which touch the last element below the length and one of those before.
 *
 * Proved. An element below the length has a region, which never changes, and memory.
 * The length never falls.
 *
 * Abstracted. Bytes are elements; a segment has two, and an array two segments.
 *
 * Left out: Release, before which the last reader has gone.
 *
 * Seen: 1,480,000 states.
 */

#define PER 2
#define SEGMENTS 2
#define MOST 4

byte regions;		/* that were reserved */
byte memory[9];		/* by region */
byte directory[SEGMENTS];
byte length, last, filled;
bool locked;

#ifdef NO_LOCK
#define lock() skip
#define unlock() skip
#else
#define lock() atomic { !locked -> locked = true }
#define unlock() locked = false
#endif

inline setLength(l) { d_step { assert(l >= length); length = l } }

inline setDirectory(i) {
	d_step {
		assert(directory[i] == 0 || directory[i] == last);
		directory[i] = last
	}
}

/* One round of the loop in Grow: the last segment grows to want elements. */
inline Grow(want) {
	have = length;
	if
	:: have >= want -> break
	:: else
	fi;
	if
	:: last == 0 || filled == PER ->
		d_step { regions++; last = regions; filled = 0 }
	:: else
	fi;
	first = have - filled;
	to = (want - first < PER -> want - first : PER);
#ifdef LEN_FIRST
	setDirectory(first / PER);
	setLength(first + to);
#endif
	if
	:: skip	/* Commit is refused */
		break
	:: d_step {
			if
			:: to > memory[last] -> memory[last] = to
			:: else
			fi;
			filled = to
		}
	fi;
#ifdef DIRECTORY_LATE
	setLength(first + to);
	setDirectory(first / PER)
#else
#ifndef LEN_FIRST
	setDirectory(first / PER);
	setLength(first + to)
#endif
#endif
}

proctype Grower() {
	byte n, have, first, to;
	for (n : 1 .. MOST) {
		lock();
		do
		:: Grow(n)
		od;
		unlock()
	}
}

inline touch(i) {
	d_step {
		assert(directory[(i) / PER] != 0);
		assert((i) % PER < memory[directory[(i) / PER]])
	}
}

proctype Reader() {
	byte n, seen;
	for (n : 1 .. 2) {
		seen = length;
		if
		:: seen > 0 -> touch(seen - 1); touch(0)
		:: else
		fi
	}
}

init {
	atomic {
		run Grower();
		run Grower();
		run Reader();
		run Reader()
	}
}
