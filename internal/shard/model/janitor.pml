/*
 * janitor: how the janitor is asked to come, and comes again (janitor.go, and tick
 * in trim.go).
 *
 * States. armed is the table's mark that the janitor was asked to come; due that
 * it is in the janitor's list; timer that the timer is set. work counts what was
 * freed and not given back yet.
 *
 * Who makes the transitions. Two freers, which free twice each and arm. Two rounds
 * of the janitor, for a timer that is set anew while a round is under way starts
 * another: each takes the table from the list, lets itself be armed again, and
 * gives back what there is, or finds the shards busy, and arms itself.
 *
 * Proved. When the freers have done and no timer is set, all is given back: no
 * free is forgotten between a round that is over and one that was not asked for.
 *
 * Abstracted. One table; the timer fires at any time after it was set; a round finds the
 * shards busy three times at most. Two rounds take turns in tick (ticking).
 *
 * Left out: shed, refill and drainFreepools, which count the shared freepools in
 * nfree, where about is enough.
 *
 * Seen: 586,000 states.
 */

bool armed, due, timer;
bool mu;      /* janitor.mu */
bool ticking;
byte work;
byte patience = 3;

#define lock(m) atomic { !m -> m = true }
#define unlock(m) m = false

inline setTimer() { timer = true }

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
	lock(ticking);
	again = false;
	if
	:: atomic { patience > 0 -> patience--; again = true }
	:: work = 0
	fi;
	unlock(ticking)
}

inline janitorRound() {
	lock(mu);
	serve = due;
	due = false;
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
		lock(mu);
		if
		:: due -> setTimer()
		:: else
		fi;
		unlock(mu)
	:: else
	fi
}

proctype Round() {
	bool serve, again, won;
end:
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
