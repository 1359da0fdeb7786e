/*
 * tagstack: the lock-free stack of pools of package tagstack.
 *
 * States. head is the word {tag, number of the top node}; links[n] is the next
 * node of n, which stands in the header of that number. Headers are never
 * unmapped, so a pop that has lost a race may read the link of a node that another
 * holds by now.
 *
 * Who makes the transitions. Three processes, which make three, two and two calls of
 * their choice: Push of a node in hand, or of a chain of two (joined by Link), and
 * Pop. Nodes are used again at once.
 *
 * Proved. A node that is popped was on the stack (owner, a ghost): no
 * node is handed out twice. When all is over the chain has each node once that
 * nobody holds: none is lost, and there is no cycle.
 *
 * Abstracted. One stack (a node is on at most one at a time); the tag does not
 * wrap within the run, in the code it has 32 bits; Empty is a plain load.
 *
 * Seen: 1,950,000 states.
 */

#define NODES 3
#define PROCS 3

typedef Word { byte tag; byte top }

Word head;
byte links[NODES + 1];
byte owner[NODES + 1]; /* ghost: 0 on the stack, else who holds the node */
byte done;

/* next is the head that follows old */
#ifdef NO_TAG
#define next_tag(old) 0
#else
#define next_tag(old) (old.tag + 1)
#endif

#define CompareAndSwap(old, n, ok) \
	atomic { \
		if \
		:: head.top == old.top && head.tag == old.tag -> \
			head.top = n; head.tag = next_tag(old); ok = true \
		:: else -> ok = false \
		fi \
	}

#define Load(old) d_step { old.top = head.top; old.tag = head.tag }

inline Link(n, to) { links[n] = to }

inline Push(first, last) {
	d_step {
		assert(owner[first] == me && owner[last] == me);
		owner[first] = 0;
		owner[last] = 0
	}
	do
	:: Load(old);
#ifdef LINK_LATE
		CompareAndSwap(old, first, ok);
		if
		:: ok -> links[last] = old.top; break
		:: else
		fi
#else
		links[last] = old.top;
		CompareAndSwap(old, first, ok);
		if
		:: ok -> break
		:: else
		fi
#endif
	od
}

/* Pop leaves the node, or 0, in n */
inline Pop(n) {
	do
	:: Load(old);
		n = old.top;
		if
		:: n == 0 -> break
		:: else
		fi;
		link = links[n]; /* stale if n was popped since */
		atomic {
			CompareAndSwap(old, link, ok);
			if
			:: ok -> assert(owner[n] == 0); owner[n] = me; break
			:: else
			fi
		}
	od
}

/* select_held leaves a node that the caller holds, or 0, in n */
inline select_held(n) {
	if
	:: owner[1] == me -> n = 1
	:: owner[2] == me -> n = 2
	:: owner[3] == me -> n = 3
	:: owner[1] != me && owner[2] != me && owner[3] != me -> n = 0
	fi
}

proctype Caller(byte me, ops) {
	byte n, m, link, i;
	bool ok;
	Word old;

	do
	:: i < ops ->
		i++;
		if
		:: Pop(n)
		:: /* push one node */
			select_held(n);
			if
			:: n != 0 -> Push(n, n)
			:: else
			fi
		:: /* push two */
			select_held(n);
			if
			:: n != 0 ->
				d_step {
					m = n % NODES + 1;
					if
					:: owner[m] == me
					:: else -> m = m % NODES + 1
					fi
				};
				if
				:: m != n && owner[m] == me -> Link(n, m); Push(n, m)
				:: else
				fi
			:: else
			fi
		fi;
		atomic { n = 0; m = 0; link = 0; ok = false; old.top = 0; old.tag = 0 }
	:: else -> break
	od;
	done++
}

init {
	byte n, seen, free;
	atomic {
		head.top = 1;
		links[1] = 2;
		links[2] = 3;
		run Caller(1, 3);
		run Caller(2, 2);
		run Caller(3, 2)
	};
	done == PROCS;
	atomic {
		n = head.top;
		do
		:: n != 0 && seen <= NODES -> assert(owner[n] == 0); seen++; n = links[n]
		:: else -> break
		od;
		n = 1;
		do
		:: n <= NODES -> free = free + (owner[n] == 0 -> 1 : 0); n++
		:: else -> break
		od;
		assert(seen == free)
	}
}
