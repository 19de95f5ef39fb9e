/*
 * A page that is sent alone or in a bundle with pages of other incidents: two workers, a host that acknowledges and takes
 * back at any moment, crashes after every step, and a receiver that accepts a message, half of it or nothing, and drops
 * copies by their key. page.pml looks at the rest of a page's life. README.md says which function each step stands for;
 * test_model.py runs the search.
 *
 * Pages are alike: the search follows the page 0, until it is settled and no sender has it any more. The others count as
 * long as they are in its bundle, and then they are outside: sent with others, settled, or not recorded yet. So a claim
 * of a fresh page finds any of the pages outside, fresh as well, and of each page beside it may turn out that it ended.
 * A set of pages is a byte with one bit for each. The key of a bundle is made of its first pages, and never again.
 *
 * A claim and a settlement are one step each. At each of them any page may be one that another transaction has locked. What is
 * called seen_ is no part of the system: it is what somebody who sees everything remembers, to judge by.
 *
 * Defects are planted with -D: GROWS, SETTLE_FIRST, KEY_FOR_SOME, NO_ACK_CHECK. What is printed is the story of a
 * search that failed, when it is played again.
 */

#ifndef PAGES
#define PAGES 3
#endif
#define NOBODY 2
#define BIT(p) (1 << (p))
#define HAS(set, p) ((set) & BIT(p))
#define ALONE(set) (((set) & ((set) - 1)) == 0) /* at most one page */
#define OF_BOTH (flight[0].pages | flight[1].pages)

mtype = { outside, pending, leased, cancelling, delivered, cancelled, dead }; /* superseded is like cancelled, handed over like dead */
mtype = { unsent, arrived, again, throttled, refused };                       /* what a sender is told of its attempt */

typedef Page {
    mtype state = outside; bool over;
    byte owner = NOBODY         /* the worker whose fence is the page's */
}
typedef Flight {
    byte pages;                 /* the pages of the message that this worker has not settled yet */
    mtype outcome = unsent;
    bool seen_late              /* the incident had ended when the claim began */
}

Page page[PAGES];
bool tried;                     /* an attempt of page 0 was counted */
byte key;                       /* the first pages of the bundle of page 0; 0 if it is in none */
Flight flight[2];
bool ended;                     /* the incident of page 0 is acknowledged */
bool seen_doomed;               /* it was since the page was made, by a write that cancels pages */
bool seen_shown;                /* the receiver has told somebody of page 0 */
bool seen_key, seen_own_key;    /* what the receiver remembers: it has taken a message with this bundle's key, or with the page's */
bool I3, I4, I5, I6;            /* false, always: the names of the invariants, for whoever reads a failure */

/* --- what holds after every step */

#define unsettled(p) (page[p].state == leased || page[p].state == cancelling)
#define due(p) (page[p].state == pending || (unsettled(p) && page[p].over))
#define fresh (page[0].state == pending && !tried && !key)
#define mine(w, p) (HAS(flight[w].pages, p) && page[p].owner == w)
#define followed (page[0].state == pending || unsettled(0) || page[0].state == dead || HAS(OF_BOTH, 0))

inline judge() {
    assert(I3 || page[0].state != delivered || seen_shown);                                /* settled because it arrived */
    assert(I3 || !unsettled(0) || page[0].over || mine(0, 0) || mine(1, 0))                /* or it comes back */
}

/* --- delivery: claim, POST, settle */

inline leave(p, to) { page[p].state = to; page[p].over = false; page[p].owner = NOBODY }

inline go_outside(p) { /* nobody looks at this page any more, nor at who has it */
    leave(p, outside);
    flight[0].pages = flight[0].pages & ~BIT(p); flight[1].pages = flight[1].pages & ~BIT(p);
    if :: !flight[0].pages -> rest(0) :: else fi;
    if :: !flight[1].pages -> rest(1) :: else fi
}

inline rest(w) { flight[w].pages = 0; flight[w].outcome = unsent; flight[w].seen_late = false }

inline new_bundle(first) { /* those that are not among its first pages are left with the old key */
    for (q : 1 .. PAGES - 1) { if :: !HAS(first, q) -> go_outside(q) :: else fi }
    q = 0;
    key = (ALONE(first) -> 0 : first); seen_key = false
}

inline claim_message(w) { /* a page, and what goes with it */
    atomic {
        followed && !flight[w].pages && (due(0) || due(1) || due(2) || due(PAGES - 1)) ->
        if :: due(0) -> one = 0 :: due(1) -> one = 1 :: due(2) -> one = 2 :: PAGES > 3 && due(PAGES - 1) -> one = PAGES - 1 fi;
        found = BIT(one);
        if :: fresh -> some = true :: else fi;
        for (p : 0 .. PAGES - 1) {
            if
            :: p == one
            :: p != one && key && page[p].state != outside -> /* all of the bundle goes, or only some */
#ifdef KEY_FOR_SOME
                if :: due(p) -> found = found | BIT(p) :: true fi
#else
                if :: due(p) -> found = found | BIT(p) :: some = true fi
#endif
            :: p != one && fresh -> /* a new bundle, if more wait than the budget takes */
                if :: found = found | BIT(p) :: true fi
#ifdef GROWS
            :: p != one && key && page[p].state == outside -> found = found | BIT(p)
#endif
            :: else
            fi
        }
        for (p : 0 .. PAGES - 1) { /* pages that ended, or that a newer one supersedes, fall out */
            if
            :: p && HAS(found, p) -> found = found & ~BIT(p); go_outside(p)
            :: p && HAS(found, p)
            :: !p && HAS(found, p) && page[p].state == pending -> found = found & ~BIT(p); leave(p, cancelled)
#ifdef NO_ACK_CHECK
            :: !p && HAS(found, p)
#else
            :: !p && HAS(found, p) && (ended || page[p].state == cancelling) -> found = found & ~BIT(p); leave(p, cancelled)
            :: !p && HAS(found, p) && !(ended || page[p].state == cancelling)
#endif
            :: !HAS(found, p)
            fi
        }
        if
        :: some && HAS(found, 0) -> new_bundle(found)
        :: some && !HAS(found, 0) -> /* they go under a key that is not that of page 0 */
            for (p : 1 .. PAGES - 1) { if :: HAS(found, p) -> go_outside(p) :: else fi }
            found = 0
        :: else
        fi;
        for (p : 0 .. PAGES - 1) {
            if
            :: HAS(found, p) ->
                assert(I5 || !unsettled(p) || page[p].over); /* no other sender has it */
                leave(p, leased); page[p].owner = w
            :: else
            fi
        }
        if
        :: found -> flight[w].pages = found; flight[w].seen_late = ended || seen_doomed
#ifdef SETTLE_FIRST
            ; flight[w].outcome = (key -> arrived : unsent)
#endif
        :: else
        fi;
        printf("worker %d leases pages %d with key %d\n", w, found, key);
        p = 0; one = 0; found = 0; some = false; judge()
    }
}

#define late(w, p) (HAS(flight[w].pages, p) && (page[p].owner != w || page[p].over))
#define in_time(w) (!(late(w, 0) || late(w, 1) || late(w, 2) || late(w, PAGES - 1)))

inline give_up(w) { /* pages whose lease is nearly over are left to whoever claims them next */
    atomic {
        flight[w].pages && flight[w].outcome == unsent && !in_time(w) -> printf("worker %d is too late to send\n", w);
        rest(w); judge()
    }
}

inline get_message(w) { /* the receiver takes all of it, or drops the copy */
    printf("the receiver gets pages %d with key %d from worker %d\n", flight[w].pages, key, w);
    if
    :: key && !seen_key -> seen_key = true; if :: HAS(flight[w].pages, 0) -> seen_shown = true :: else fi
    :: !key && !seen_own_key -> seen_own_key = true; seen_shown = true
    :: else -> printf("and drops the copy\n")
    fi
}

inline get_half(w) { /* it shows some pages before it fails, so it does not remember the key */
    printf("the receiver gets half of pages %d from worker %d\n", flight[w].pages, w);
    if :: HAS(flight[w].pages, 0) -> seen_shown = true :: true fi
}

inline post_message(w) {
    atomic {
        flight[w].pages && flight[w].outcome == unsent && in_time(w) ->
        assert(I4 || !(flight[w].pages & ~(key -> key : 1)));             /* a key stands for its first pages alone */
        assert(I6 || !flight[w].seen_late || !HAS(flight[w].pages, 0));
        if
        :: get_message(w); flight[w].outcome = arrived
        :: get_message(w); flight[w].outcome = again; printf("and worker %d does not know\n", w)
        :: !ALONE(flight[w].pages) -> get_half(w); if :: flight[w].outcome = again :: flight[w].outcome = refused fi
        :: flight[w].outcome = again; printf("worker %d fails to send\n", w)
        :: flight[w].outcome = throttled; printf("worker %d is throttled\n", w)
        :: flight[w].outcome = refused; printf("worker %d is refused\n", w)
        fi;
        flight[w].seen_late = false; judge()
    }
}

#define fenced(w, p) (page[p].owner != w)

inline settle_message(w) { /* pages that others have locked are settled later */
    atomic {
        flight[w].pages && flight[w].outcome != unsent ->
        for (p : 0 .. PAGES - 1) { if :: HAS(flight[w].pages, p) -> settle_page(w) :: true fi }
        printf("worker %d settles, and pages %d are left\n", w, flight[w].pages);
        go_apart(w);
        p = 0;
        if :: !flight[w].pages -> rest(w) :: else fi;
        judge()
    }
}

inline settle_page(w) {
    flight[w].pages = flight[w].pages & ~BIT(p);
    if
    :: fenced(w, p)
    :: !fenced(w, p) && p -> leave(p, outside) /* delivered, or ended */
    :: !fenced(w, p) && !p && flight[w].outcome == arrived -> leave(p, delivered)
    :: !fenced(w, p) && !p && flight[w].outcome != arrived && (ended || page[p].state == cancelling) -> leave(p, cancelled)
    :: !fenced(w, p) && flight[w].outcome != arrived && (p || !(ended || page[p].state == cancelling)) ->
        if
        :: flight[w].outcome == refused && !key -> leave(p, dead); tried = false
        :: flight[w].outcome == refused && key -> leave(p, pending); found = found | BIT(p)
        :: flight[w].outcome == again -> leave(p, pending); if :: !p -> tried = true :: else fi
        :: flight[w].outcome == throttled -> leave(p, pending)
        fi
    fi
}

inline go_apart(w) { /* a refused bundle: page 0 goes alone, or with some of those settled with it under a new key */
    if
    :: HAS(found, 0) ->
        tried = true; part = 1;
        for (p : 1 .. PAGES - 1) { if :: HAS(found, p) -> part = part | BIT(p) :: true fi }
        if
        :: part != key -> new_bundle(part)
        :: else -> new_bundle(1)
        fi;
        printf("page 0 goes apart with key %d\n", key)
    :: found && !HAS(found, 0) -> for (p : 1 .. PAGES - 1) { if :: HAS(found, p) -> go_outside(p) :: else fi }
    :: else
    fi;
    found = 0; part = 0
}

inline crash_sender(w) { /* its leases run on to their end */
    atomic {
        flight[w].pages -> printf("worker %d dies\n", w);
        for (p : 0 .. PAGES - 1) { if :: mine(w, p) && unsettled(p) -> page[p].over = true; page[p].owner = NOBODY :: else fi }
        p = 0; rest(w); judge()
    }
}

inline stand_still(w) { /* a sender stands still for longer than its leases, and does not know */
    atomic {
        flight[w].pages && in_time(w) -> printf("worker %d stands still\n", w);
        for (p : 0 .. PAGES - 1) { if :: mine(w, p) && unsettled(p) -> page[p].over = true :: else fi }
        p = 0
    }
}

proctype Courier(byte w) {
    byte one, found, part, p, q; /* within a step: pages and counters */
    bool some;                  /* within a step: not all of a bundle is found, so that those that are get a new key */
end_idle:
    do
    :: claim_message(w)
    :: give_up(w)
    :: post_message(w)
    :: settle_message(w)
    :: crash_sender(w)
    :: stand_still(w)
    od
}

/* --- the host, with the library's verbs and with SQL of its own, and the operator */

inline acknowledge() { /* a pending page is cancelled; a leased one may finish */
    atomic {
        followed && !ended -> printf("the host acknowledges\n");
        if :: page[0].state == pending -> leave(0, cancelled) :: page[0].state == leased -> page[0].state = cancelling :: else fi;
        ended = true; seen_doomed = true
    }
}

inline write_unseen() { /* the triggers are off, or an acknowledgement is taken back */
    atomic { followed -> ended = !ended; printf("the host writes that the incident has ended: %d\n", ended) }
}

inline revive_page() { /* an operator tries the dead page again */
    atomic { page[0].state == dead && !ended -> printf("the dead page is tried again\n"); page[0].state = pending; seen_doomed = false }
}

proctype Host() {
end_idle:
    do
    :: acknowledge()
    :: write_unseen()
    :: revive_page()
    od
}

init { atomic { page[0].state = pending; run Courier(0); run Courier(1); run Host() } }
