/*
 * budget: the bytes that an allocator has mapped, against its limit (Budget).
 *
 * States. mapped and High are the words; limit is Limit.
 *
 * Who makes the transitions. Three processes: each takes one or two bytes, and
 * gives them back if it got them.
 *
 * Proved. No more than the limit is ever taken, and High is the most that was.
 *
 * Abstracted. Three bytes are the limit. most is a ghost.
 *
 * Seen: 53,000 states.
 */

#define LIMIT 3

byte mapped, High;
byte most; /* ghost */
byte done;

inline note() {
	if
	:: mapped > most -> most = mapped
	:: else
	fi;
	assert(mapped <= LIMIT)
}

inline raise() {
	high = High;
	do
	:: old + n > high ->
		atomic {
			if
#ifdef HIGH_BLIND
			:: High = old + n; break
#else
			:: High == high -> High = old + n; break
			:: else
#endif
			fi
		};
		high = High
	:: else -> break
	od
}

inline Take() {
	do
	:: true ->
		old = mapped;
		if
		:: old + n > LIMIT -> got = false; break
		:: else
		fi;
		atomic {
			if
#ifdef TAKE_BLIND
			:: mapped = old + n; got = true
#else
			:: mapped == old -> mapped = old + n; got = true
			:: else -> got = false
#endif
			fi;
			if
			:: got -> note()
			:: else
			fi
		};
		if
		:: got -> raise(); break
		:: else
		fi
	od
}

inline Give() { atomic { mapped = mapped - n } }

proctype User() {
	byte n, old, high;
	bool got;
	if
	:: n = 1
	:: n = 2
	fi;
	Take();
	if
	:: got -> Give()
	:: else
	fi;
	done++
}

init {
	atomic {
		run User();
		run User();
		run User()
	};
	done == 3;
	assert(mapped == 0 && High == most)
}
