/*
 * grow: an array that grows while others read it.
 *
 * States. memory is how many elements are backed by memory; committed and length
 * (len in the code) are the words.
 *
 * Who makes the transitions. Two growers, under the caller's lock: Commit, then the
 * words. Two readers, which touch the last element below Len.
 *
 * Proved. An element below Len has memory. Len never falls.
 *
 * Abstracted. Bytes are elements.
 *
 * Left out: Release, before which the last reader has gone.
 *
 * Seen: 310,000 states.
 */

byte memory, committed, length;
bool locked;

#ifdef NO_LOCK
#define lock() skip
#define unlock() skip
#else
#define lock() atomic { !locked -> locked = true }
#define unlock() locked = false
#endif

inline Commit(to) {
	d_step {
		if
		:: to > memory -> memory = to
		:: else
		fi
	}
}

inline Grow() {
	lock();
	if
	:: n <= length
	:: else ->
		want = (n > committed + 1 -> n : committed + 1);
#ifdef LEN_FIRST
		setLen();
		Commit(want);
#else
		Commit(want);
		setLen();
#endif
		committed = want
	fi;
	unlock()
}

inline setLen() { d_step { assert(want >= length); length = want } }

proctype Grower() {
	byte n, want;
	for (n : 1 .. 3) {
		Grow();
		assert(length >= n)
	}
}

proctype Reader() {
	byte n, seen;
	for (n : 1 .. 2) {
		seen = length;
		assert(seen <= memory)
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
