/*
 * budget: the bytes that an allocator has mapped, against its limit (Budget).
 *
 * States. taken, mapped and High are the words; limit is Limit.
 *
 * Who makes the transitions. Three processes: each takes one or two bytes, which the
 * system may refuse, and gives them back if it got them.
 *
 * Proved. No more than the limit is ever taken, no more is mapped than that, and High
 * is the most that was mapped.
 *
 * Abstracted. Three bytes are the limit. most is a ghost.
 *
 * Seen: 173,000 states.
 */

#define LIMIT 3

byte taken, mapped, High;
byte most; /* ghost */
byte done;

inline raise() {
	high = High;
	do
	:: now > high ->
		atomic {
			if
#ifdef HIGH_BLIND
			:: High = now; break
#else
			:: High == high -> High = now; break
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
		now = taken;
		if
		:: now + n > LIMIT -> got = false; break
		:: else
		fi;
		atomic {
			if
#ifdef TAKE_BLIND
			:: taken = now + n; got = true
#else
			:: taken == now -> taken = now + n; got = true
			:: else -> got = false
#endif
			fi
		};
		if
		:: got -> break
		:: else
		fi
	od;
	if
	:: got -> /* the system refuses */
		atomic { taken = taken - n };
		got = false
	:: got ->
		atomic {
			mapped = mapped + n;
			now = mapped;
			if
			:: mapped > most -> most = mapped
			:: else
			fi;
			assert(mapped <= taken && taken <= LIMIT)
		};
		raise()
	:: else
	fi
}

inline Give() {
	atomic { mapped = mapped - n };
	atomic { taken = taken - n }
}

proctype User() {
	byte n, now, high;
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
	assert(taken == 0 && mapped == 0 && High == most)
}
