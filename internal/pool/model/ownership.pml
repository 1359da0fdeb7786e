/*
 * ownership: the ownership word of a pool, with its owner's inbox, the shared
 * stack and the drain of a shard (packages pool and shard).
 *
 * States. One pool of two blocks. word is {owner, post, chained, head, num},
 * changed by CAS; bits, chain, chainLen and listed are the owner's part of the header; link
 * is the first word of each block. Around it: inArena, usable (the shared stack),
 * and per shard inbox, pending (the chain taken from it), owned, and hot (the
 * block that was freed last, in use as far as the pool knows) and last (the block
 * that was handed out last, if that is remembered).
 *
 * Who makes the transitions. Two goroutines, each pinned on its shard while in
 * a section, that allocate, and free any block that the program holds: TakeHot,
 * Pop, Refill, Collect, Fill, Unpost, settle, Retire, Take, Own; Keep, Push,
 * PushRemote. Trim, which takes a shard away when its user is not pinned, and
 * drains it: Retire, Share, Abandon, Unpost; and which looks through the shared
 * stack: Take and Share as Hand. While its shard is away a goroutine frees without
 * a shard: it is Nobody then, and makes shared what others would adopt.
 *
 * Proved. Each block is in one place: held by the program, hot, a bit, on the
 * remote list or on the chain (Check, whenever nobody is in a section). A block is
 * handed out only when nobody holds it. The owner's part is touched by the
 * owner alone (Touch). The chained bit tells whether there is a chain. A block that
 * is remembered as handed out last is held by the program, if its pool is quiet:
 * its free needs no look at the bitmap. A posted pool gets into its owner's inbox once, and is in
 * no other. A full pool that has got free blocks is always found again: listed,
 * or posted, or on the shared stack, or adopted by a free to come. When the
 * program has freed all and the shards are drained, the pool is back in the
 * arena with all bits set.
 *
 * Abstracted. A loop that loads the word until its CAS succeeds is one step where
 * the outcome depends on the word of that moment alone; Retire, Abandon and
 * PushRemote are a load and a CAS. What a shard's user does to its own is one step
 * with the step on the word beside it. Malloc takes any bit, not the lowest. A
 * sweep or a pool that leaves the front of its list is a Retire at any time. Only
 * one of the shards keeps blocks hot, and remembers the last one. The stacks are sets here (see tagstack.pml),
 * the grace period is a wait for the shard's user (see swap.pml). The seal and
 * lost chains are not there. Frees of one block at the same moment are double.pml's, and
 * Retire goes by lengths here, for there are no such frees.
 * Left out: PlaceInner and PlaceRun, which mark units that are no pool, under
 * the arenas' lock.
 *
 * Seen: 3,800,000 states.
 */

#define Free 0
#define Shared 1
#define Abandoned 2
#define Nobody 3 /* the caller without a shard */
#define Hand 5
#define FirstShard 6

#define Quiet 0
#define Want 1
#define Posted 2

#define BLOCKS 2
#define SHARDS 2

typedef Word { byte owner; byte post; byte head; byte num; bool chained }

/* the pool's header */
Word word;
bool bits[BLOCKS + 1] = true;
byte chain, chainLen;
bool listed;
byte link[BLOCKS + 1];

#define live (BLOCKS - bits[1] - bits[2])
#define HasBlock (live < BLOCKS || chain != 0)

/* the rest of the world */
bool inArena = true, usable;
byte hot[SHARDS];
byte last; /* of shard 0 */
bool inbox[SHARDS], pending[SHARDS], owned[SHARDS];
bool slot[SHARDS] = true; /* the shard is its goroutine's, not the drain's */
bool pinned[SHARDS];      /* its goroutine is in a section */
bool trimming;
bool stop; /* the program only frees from now on */
byte done;

bool held[BLOCKS + 1];  /* ghost: the program has the block */
byte at, places, steps; /* of Check */

#ifdef RETIRE_POSTED
#define MayRetire(w) (w.num + chainLen == live)
#else
#define MayRetire(w) (w.num + chainLen == live && w.post != Posted)
#endif

#ifdef ABANDON_NONEMPTY
#define MayAbandon(w) (w.post != Posted)
#else
#define MayAbandon(w) (w.post != Posted && w.num == 0)
#endif

#ifdef STRANDED
#define JustPush(w) !(w.owner == Abandoned && mayAdopt)
#else
#define JustPush(w) !(w.owner == Abandoned)
#endif

#ifdef HAND_AS_ME
#define NotMine(w) (w.owner != Hand || mayAdopt)
#else
#define NotMine(w) true
#endif

#ifdef POST_TWICE
#define AfterWant Want
#else
#define AfterWant Posted
#endif

/* outcomes of PushRemote */
#define Pushed 1
#define Post 2
#define Adopted 3
#define Unshared 4 /* the caller must push the pool on usable */

#ifdef FILL_BLIND
#define MayFill true
#else
#define MayFill (word.num == 0)
#endif

#ifdef SHARE_POSTED
#define MayShare true
#else
#define MayShare (word.post != Posted)
#endif

/* only the owner touches its part of the header */
#define Touch(id) assert(word.owner == id)

#define Load(w) \
	d_step { w.owner = word.owner; w.post = word.post; w.head = word.head; w.num = word.num; w.chained = word.chained }

#define Same(w) (word.owner == w.owner && word.post == w.post && word.head == w.head && word.num == w.num && word.chained == w.chained)

#define Store(o, p, h, l) word.owner = o; word.post = p; word.head = h; word.num = l

#define CompareAndSwap(w, o, p, h, l, ok) \
	d_step { \
		if \
		:: Same(w) -> Store(o, p, h, l); ok = true \
		:: else -> ok = false \
		fi \
	}

#define Forget(w) w.owner = 0; w.post = 0; w.head = 0; w.num = 0; w.chained = false

/* Check is made whenever nobody is in a section. */
inline Check() {
	d_step {
		/* each block is in one place */
		places = held[1] + bits[1] + held[2] + bits[2] + (hot[0] != 0) + (hot[1] != 0);
		assert(!(held[1] && bits[1]) && !(held[2] && bits[2]));
		assert(hot[0] == 0 || (!held[hot[0]] && !bits[hot[0]]));
		assert(hot[1] == 0 || (!held[hot[1]] && !bits[hot[1]] && hot[1] != hot[0]));
		at = word.head;
		steps = 0;
		do
		:: at != 0 ->
			assert(!held[at] && !bits[at] && at != hot[0] && at != hot[1] && steps < word.num);
			places++;
			steps++;
			at = link[at]
		:: else -> break
		od;
		assert(steps == word.num);
		at = chain;
		steps = 0;
		do
		:: at != 0 ->
			assert(!held[at] && !bits[at] && at != hot[0] && at != hot[1] && steps < chainLen);
			places++;
			steps++;
			at = link[at]
		:: else -> break
		od;
		assert(steps == chainLen);
		assert(places == BLOCKS);
		at = 0;
		places = 0;
		steps = 0;
		assert(word.chained == (chain != 0));
		assert(last == 0 || held[last] || word.owner != FirstShard || word.num != 0 || word.chained);
		/* the pool is where it is found again */
		if
		:: word.owner == Free -> assert(inArena && live == 0 && chain == 0)
		:: word.owner == Shared -> assert(usable && word.post == Quiet)
		:: word.owner == Abandoned ->
			assert(live == BLOCKS && chain == 0 && word.num == 0)
		:: word.owner >= FirstShard ->
			assert(owned[word.owner - FirstShard]);
			assert((word.post == Posted) == (inbox[word.owner - FirstShard] || pending[word.owner - FirstShard]));
			assert(listed || word.post == Posted || (word.post == Want && !HasBlock && word.num == 0))
		:: else -> assert(false)
		fi;
		assert(inArena + usable + owned[0] + owned[1] == (word.owner != Abandoned))
	}
}

inline CheckIfIdle() {
	if
	:: !pinned[0] && !pinned[1] && !trimming -> Check()
	:: else
	fi
}

/* --- package pool; id is the caller's owner id --- */

inline clear() { bits[1] = true; bits[2] = true; chain = 0; chainLen = 0 }

inline Place() { d_step { assert(word.owner == Free); listed = false; clear() } }

inline Unplace() { d_step { assert(word.owner == Free && !held[1] && !held[2]); inArena = true } }

inline Own() {
	d_step {
		assert(word.owner == Free && live == 0);
		Store(id, Quiet, 0, 0)
	}
}

inline Retire() {
	Load(w);
	atomic {
		if
		:: !MayRetire(w) -> ok = false
		:: else ->
			Touch(id);
			CompareAndSwap(w, Free, 0, 0, 0, ok);
			if
			:: ok -> assert(!held[1] && !held[2]); clear(); word.chained = false
			:: else
			fi
		fi;
		Forget(w)
	}
}

inline Collect() {
	d_step {
		Touch(id);
		ok = word.num != 0;
		if
		:: ok ->
			assert(chain == 0);
			chain = word.head;
			chainLen = word.num;
			Store(word.owner, word.post, 0, 0);
			word.chained = true
		:: else
		fi
	}
}

inline unchained() { d_step { Touch(id); assert(chain == 0); word.chained = false } }

inline unchain() {
	d_step {
		Touch(id);
		do
		:: chain != 0 ->
			assert(!bits[chain] && !held[chain]);
			bits[chain] = true;
			at = chain;
			chain = link[at];
			link[at] = 0;
			chainLen--
		:: else -> break
		od;
		at = 0;
		assert(chainLen == 0)
	};
#ifndef LAST_UNCHAINED
	forget();
#endif
	unchained()
}

inline Fill() {
	d_step {
		Touch(id);
		ok = MayFill;
		if
		:: ok && word.post == Quiet -> Store(word.owner, Want, word.head, word.num)
		:: else
		fi
	}
}

inline Unpost() {
	d_step {
		assert(word.owner == id && word.post == Posted);
		Store(word.owner, Quiet, word.head, word.num)
	}
}

inline Share() {
	d_step {
		Touch(id);
		ok = MayShare;
		if
		:: ok -> Store(Shared, Quiet, word.head, word.num)
		:: else
		fi
	}
}

inline Abandon() {
	Load(w);
	atomic {
		if
		:: MayAbandon(w) ->
			Touch(id);
#ifdef ABANDON_STORE
			Store(Abandoned, Quiet, w.head, w.num);
			ok = true
#else
			CompareAndSwap(w, Abandoned, Quiet, w.head, w.num, ok)
#endif
		:: else -> ok = false
		fi;
		Forget(w)
	}
}

inline Take() {
	d_step {
		assert(word.owner == Shared);
		Store(id, Quiet, word.head, word.num)
	}
}

/* PushRemote frees block b; what is left to do is in did, the owner to post to
 * in to. */
inline PushRemote(mayAdopt) {
	do
	:: did == 0 ->
		atomic {
			assert(w.owner != me && w.owner != Free);
			link[b] = w.head;
			if
#ifdef HAND_AS_ME
			:: w.owner == Hand && !mayAdopt -> did = Pushed /* Mine, it seems */
#endif
			:: w.owner == Abandoned && mayAdopt ->
				CompareAndSwap(w, me, Quiet, 0, 0, ok);
				if
				:: ok ->
					did = Adopted;
					Touch(me);
					assert(chain == 0);
					chain = b;
					chainLen = 1;
					word.chained = true
				:: else
				fi
#ifndef STRANDED
			:: w.owner == Abandoned && !mayAdopt ->
				CompareAndSwap(w, Shared, Quiet, b, w.num + 1, ok);
				did = (ok -> Unshared : 0)
#endif
			:: JustPush(w) && NotMine(w) ->
				to = w.owner;
				if
				:: w.post == Want ->
					CompareAndSwap(w, w.owner, AfterWant, b, w.num + 1, ok);
					did = (ok -> Post : 0)
				:: else ->
					CompareAndSwap(w, w.owner, w.post, b, w.num + 1, ok);
					did = (ok -> Pushed : 0)
				fi
			fi;
			Forget(w)
		};
		if
		:: did == 0 -> Load(w)
		:: else
		fi
	:: else -> break
	od
}

/* --- package shard; g is the shard's index, id its owner id --- */

/* a pool gets into the inbox of its owner, once */
inline push_inbox(to) {
	d_step {
		assert(word.owner == to + FirstShard);
		assert(inbox[0] + inbox[1] + pending[0] + pending[1] == 0);
		inbox[to] = true
	}
}

/* the shard's user forgets what was handed out last */
inline forget() { last = (g == 0 -> 0 : last) }

inline remember(i) { last = (g == 0 -> i : last) }

inline acquire() {
	Touch(id);
	assert(!owned[g] && !listed);
	owned[g] = true;
	listed = true
}

inline retire() {
	Retire();
	atomic {
		if
		:: ok ->
#ifndef LAST_RETIRED
			forget();
#endif
			listed = false; owned[g] = false; Unplace()
		:: else
		fi
	}
}

/* readInbox, and settle, which does not retire a listed pool here, for a sweep may */
inline readInbox() {
	atomic {
		if
		:: inbox[g] -> inbox[g] = false; pending[g] = true
		:: else
		fi
	};
	if
	:: true /* the section is long enough */
	:: atomic { pending[g] -> pending[g] = false; Unpost() };
		do
		:: atomic { listed || HasBlock -> ok = false }; break
		:: else ->
			Collect();
			if
			:: atomic { ok -> ok = false }; break
			:: else ->
				Fill();
				if
				:: ok -> break
				:: else
				fi
			fi
		od;
		if
		:: listed || ok
		:: else ->
			retire();
			if
			:: ok
			:: else -> Touch(id); listed = true
			fi
		fi
	fi
}

/* Refill, and Fill if there is nothing */
inline refillFirst() {
	atomic {
		if
		:: chain == 0 -> Collect()
		:: else -> ok = true
		fi;
		if
		:: ok -> unchain()
		:: else
		fi
	};
	if
	:: ok
	:: else ->
		atomic {
			Fill();
			if
			:: ok -> Touch(id); listed = false
			:: else
			fi
		}
	fi
}

/* Keep a block that was freed, in use as far as the pool knows */
inline Keep(i) {
	assert(word.owner == id && !bits[i] && hot[g] == 0);
	held[i] = false;
	last = (last == i -> 0 : last);
	hot[g] = i
}

inline TakeHot() {
	Touch(id);
	assert(!bits[hot[g]] && !held[hot[g]]);
	held[hot[g]] = true;
	remember(hot[g]);
	hot[g] = 0
}

inline Pop(i) {
	Touch(id);
	assert(bits[i] && !held[i]);
	bits[i] = false;
	held[i] = true;
	remember(i)
}

/* Push, and trip: a free of block i by its owner */
inline Push(i) {
	Touch(id);
	assert(!bits[i]);
	held[i] = false;
	last = (g == 0 && last == i -> 0 : last);
	bits[i] = true;
	listed = true
}

/* Quieten a pool that is listed */
inline quieten() {
	atomic {
		if
		:: chain == 0 -> Collect()
		:: else -> ok = true
		fi;
		if
		:: ok -> unchain()
		:: else
		fi
	}
}

#define enter pinned[g] = true; s = slot[g]
#define mine (slot[g] && word.owner == id)

/* freeRemote frees block i, after beginRemote. The caller saw that the pool is not
 * its own, which is so to the end of its section. */
inline beginRemote(i) {
	enter;
	held[i] = false;
	b = i;
	me = (s -> id : Nobody);
	Load(w)
}

inline freeRemote() {
	PushRemote(s);
	atomic {
		if
		:: did == Post -> push_inbox(to - FirstShard)
		:: did == Adopted -> acquire()
		:: did == Unshared -> assert(!usable); usable = true
		:: else
		fi;
		exit()
	}
}

inline exit() {
	atomic {
		pinned[g] = false;
		s = false;
		ok = false;
		b = 0;
		me = 0;
		did = 0;
		to = 0;
		CheckIfIdle()
	}
}

active [SHARDS] proctype Goroutine() {
	byte g = _pid;
	byte id = _pid + FirstShard;
	byte b, me, did, to;
	bool s, ok;
	Word w;

	do
	:: atomic { g == 0 && mine && hot[g] == 0 && held[1] -> Keep(1); exit() }
	:: atomic { g == 0 && mine && hot[g] == 0 && held[2] -> Keep(2); exit() }
	:: atomic { !stop && slot[g] && hot[g] != 0 -> TakeHot(); exit() }
	:: atomic { !stop && slot[g] && owned[g] && listed && bits[1] -> Pop(1); exit() }
	:: atomic { !stop && slot[g] && owned[g] && listed && bits[2] -> Pop(2); exit() }
	:: atomic { !stop && slot[g] && owned[g] && listed && live == BLOCKS -> enter }; refillFirst(); exit()
	:: atomic { mine && listed && (word.num != 0 || word.chained) -> enter }; quieten(); exit()
	:: atomic { slot[g] && (inbox[g] || pending[g]) -> enter }; readInbox(); exit()
	:: atomic { !stop && slot[g] && !owned[g] && usable -> usable = false; Take(); acquire(); exit() }
	:: atomic { !stop && slot[g] && !owned[g] && inArena -> inArena = false; Place(); Own(); acquire(); exit() }
	:: atomic { slot[g] && owned[g] -> enter }; retire(); exit() /* sweepOne, list, trip */
	:: atomic { mine && held[1] -> Push(1); exit() }
	:: atomic { !mine && held[1] -> beginRemote(1) }; freeRemote()
	:: atomic { mine && held[2] -> Push(2); exit() }
	:: atomic { !mine && held[2] -> beginRemote(2) }; freeRemote()
	:: atomic { stop && !held[1] && !held[2] -> done++ }; break
	od
}

/* dispose leaves in ok whether the pool was given up */
inline dispose() {
	do
	:: word.post == Posted -> ok = false; break
	:: else ->
		Retire();
		if
		:: ok -> Unplace(); break
		:: else
		fi;
		if
		:: HasBlock -> ok = true
		:: else -> Collect()
		fi;
		if
		:: ok ->
			Retire();
			if
			:: ok -> Unplace(); break
			:: else
			fi;
			Share();
			if
			:: ok -> d_step { assert(!usable); usable = true }; break
			:: else
			fi
		:: else ->
			Abandon();
			if
			:: ok -> break
			:: else
			fi
		fi
	od
}

inline drain() {
	atomic {
		forget();
		if
#ifndef DRAIN_NO_HOT
		:: hot[g] != 0 ->
			Touch(id);
			assert(!bits[hot[g]]);
			bits[hot[g]] = true;
			hot[g] = 0
#endif
		:: else
		fi
	};
	if
	:: owned[g] ->
		d_step { Touch(id); listed = false; owned[g] = false };
		dispose();
#ifndef DRAIN_NO_WAIT
		if
		:: ok
		:: else ->
			if
			:: atomic { inbox[g] && !pending[g] -> inbox[g] = false }
			:: atomic { pending[g] -> pending[g] = false }
			fi;
			Unpost();
			dispose();
			assert(ok)
		fi
#endif
	:: else
	fi
}

inline drainUsable() {
	if
	:: atomic { usable -> usable = false };
		id = Hand;
		Take();
		Retire();
		if
		:: ok -> Unplace()
		:: else -> Share(); d_step { assert(ok && !usable); usable = true }
		fi
	:: else
	fi
}

active proctype Trim() {
	byte g, id;
	bool ok;
	Word w;

	do
	:: atomic { done < 2 && !stop -> trimming = true };
		if
		:: g = 0
		:: g = 1
		:: drainUsable(); g = SHARDS
		fi;
		if
		:: g < SHARDS ->
			slot[g] = false;
			!pinned[g]; /* grace.Wait */
			id = FirstShard + g;
			drain();
			slot[g] = true /* keepShard; and install, later */
		:: else
		fi;
		atomic { g = 0; id = 0; ok = false; trimming = false; CheckIfIdle() }
	:: atomic { !stop -> stop = true }
	:: done == 2 -> break
	od;

	trimming = true;
	id = FirstShard;
	drain();
	g = 1;
	id = FirstShard + 1;
	drain();
	drainUsable();
	Check();
	assert(word.owner == Free && inArena)
}

