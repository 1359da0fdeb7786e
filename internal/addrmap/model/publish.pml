/*
 * publish: how the arena map gets leaves while others read it.
 *
 * States. root is the leaf of an address, 0 the leaf of zeros; made[l] tells that
 * the memory of leaf l is mapped; entry[l] has the entries of two addresses. high
 * is the list of high leaves, a set of two, replaced as a whole.
 *
 * Who makes the transitions. Two setters: each makes the leaf if need be (grow; or
 * SetPrepared, of memory that Prepare has made before), publishes it (publish; for a
 * high address publishHigh here), and stores the entry of its own address, then clears
 * it. A reader loads both entries at any time, and sees what is there.
 *
 * Proved. A leaf is touched only when it is mapped. What a setter has stored is seen
 * until it clears it: no leaf takes the place of another, and no copy of the list
 * loses one.
 *
 * Abstracted. The low and the high leaves are made in one step of the model each;
 * the memory of a leaf may be refused, which changes nothing.
 *
 * Left out: table, which counts bytes.
 *
 * Seen: 11,000 states.
 */

byte root;
byte leaves;             /* made so far */
bool made[3];
bool entry[6];           /* [2*leaf + address] */
bool high[2];
bool growing;            /* the lock */

#ifdef NO_LOCK
#define lock() skip
#define unlock() skip
#else
#define lock() atomic { !growing -> growing = true }
#define unlock() growing = false
#endif

inline publish() { root = l }

inline grow() {
	lock();
	l = root;
	if
	:: l == 0 ->
		d_step { leaves++; l = leaves };
#ifdef PUBLISH_FIRST
		publish();
		made[l] = true
#else
		made[l] = true;
		publish()
#endif
	:: else
	fi;
	unlock()
}

inline publishHigh() {
	lock();
	d_step { h0 = high[0]; h1 = high[1] }; /* the copy */
	d_step {
		high[0] = h0 || me == 0;
		high[1] = h1 || me == 1
	};
	unlock()
}

inline store(value) {
	l = root;
	assert(made[l]);
	entry[2 * l + me] = value
}

inline find() {
	l = root;
	assert(l == 0 || made[l])
}

proctype Setter(byte me) {
	byte l;
	bool h0, h1;
	if
	:: grow();
		store(true);
		find();
		assert(entry[2 * l + me]);
		store(false)
	:: publishHigh();
		assert(high[me])
	:: true /* refused */
	fi
}

proctype Reader() {
	byte l, n;
	for (n : 1 .. 3) {
		find();
		assert(l != 0 || (!entry[0] && !entry[1]))
	}
}

init {
	atomic {
		run Setter(0);
		run Setter(1);
		run Reader()
	}
}
