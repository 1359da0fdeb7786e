/*
 * janitor: how the janitor is asked to come, and comes again (engine: arm, armSlow, setTimer,
 * janitorRound, tick).
 *
 * States. armed is the life's mark that the janitor was asked to come; due that the life is
 * in the janitor's heap; set that the janitor knows its timer to be set, timer that it is.
 * work counts what was freed and not given back yet.
 *
 * Who makes the transitions. Two freers, which free twice each and arm. Two rounds of the
 * janitor, for a timer that is set anew while a round is under way starts another: each takes
 * the life from the heap, if it is time, lets it be armed again, and gives back what there
 * is, or finds the shards busy, and arms the life itself.
 *
 * Proved. When the freers have done and no timer is set, all is given back: no free is
 * forgotten between a round that is over and one that was not asked for.
 *
 * Each twin lacks a guard, and fails:
 *
 *	DISARM_LATE  the life may be armed again after the tick, not before
 *	NO_AGAIN     a tick that has found the shards busy does not arm
 *	NO_TIMER     a round does not set the timer in the end
 *	SET_KEPT     a round that begins does not note that the timer is not set any more
 *
 * Abstracted. One life; the timer fires at any time after it was set; a round finds the shards
 * busy three times at most. Two rounds take turns in tick (trimming).
 *
 * Seen: 420,000 states.
 */

bool armed, due, set, timer;
bool mu; /* janitor.mu */
bool trimming;
byte work;
byte patience = 3;

#define lock(m) atomic { !m -> m = true }
#define unlock(m) m = false

inline setTimer() {
	if
	:: due && !set -> set = true; timer = true
	:: else
	fi
}

inline armSlow() {
	lock(mu);
	due = true;
	setTimer();
	unlock(mu)
}

inline arm() {
	if
	:: armed
	:: else ->
		atomic {
			if
			:: armed -> won = false
			:: else -> armed = true; won = true
			fi
		};
		if
		:: won -> armSlow()
		:: else
		fi
	fi
}

proctype Freer() {
	byte n;
	bool won;
	for (n : 1 .. 2) {
		work++;
		arm()
	}
}

inline tick() {
	lock(trimming);
	again = false;
	if
	:: atomic { patience > 0 -> patience--; again = true }
	:: work = 0
	fi;
	unlock(trimming)
}

inline janitorRound() {
	lock(mu);
#ifndef SET_KEPT
	set = false;
#endif
	if
	:: due -> due = false; serve = true
	:: true -> serve = false /* it is not time */
	fi;
	unlock(mu);
	if
	:: serve ->
#ifndef DISARM_LATE
		armed = false;
#endif
		tick();
#ifdef DISARM_LATE
		armed = false;
#endif
#ifndef NO_AGAIN
		if
		:: again -> arm()
		:: else
		fi;
#endif
	:: else
	fi;
#ifndef NO_TIMER
	lock(mu);
	setTimer();
	unlock(mu);
#endif
	d_step { serve = false; again = false; won = false }
}

proctype Round() {
	bool serve, again, won;
endless:
	do
	:: atomic { timer -> timer = false }; janitorRound()
	od
}

init {
	atomic {
		run Freer();
		run Freer();
		run Round();
		run Round()
	};
	timeout -> assert(work == 0)
}
