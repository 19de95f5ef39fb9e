/*
 * One incident and one of its pages, from the claim to the settlement: two workers, a host that writes at any moment, crashes
 * after every step, replies that say nothing, and leases that end too early. None of these is counted, so the search is
 * over any number of them. README.md says which function each step stands for; test_model.py runs the search.
 *
 * Pages share nothing but their incident: the search follows one, and takes each in turn. What a transaction writes is
 * applied in one step, when it commits; until then it holds its locks. Time has no number: an open incident may always
 * be due, a pending page as well, and a lease may be over at any moment. A fence has no number either: what counts is
 * whether a sender's is still the page's. What is called seen_ is no part of the system: it is what somebody who sees
 * everything remembers, to judge by.
 *
 * A page that its target does not deliver is handed over: the fallback gets a page with the same key, in one commit. So at
 * most one page of an escalation can be sent, and "the page" is the last one of the chain; its hop says which one that is.
 *
 * Defects are planted with -D: EVENT_OUTSIDE, NO_FENCING, SETTLE_FIRST, NO_ACK_CHECK, KEY_WITHOUT_EPISODE, NO_LOCK,
 * NO_UNIQUE_KEY, FALLBACK_KEY, HAND_OVER_OUTSIDE, SUPERSEDE_LEASED. What is printed is the story of a search that failed, when it is played again.
 */

#ifndef EPISODES
#define EPISODES 2
#endif
#ifndef LEVELS
#define LEVELS 2
#endif
#ifndef FALLBACKS
#define FALLBACKS 1 /* the fallbacks after the first target */
#endif
#define WORKERS 2
#define ESCALATIONS (EPISODES * LEVELS)
#define NONE ESCALATIONS

#define NUMBER(episode, level) (((episode) - 1) * LEVELS + (level) - 1)
#define EPISODE(number) ((number) / LEVELS + 1)
#define LEVEL(number) ((number) % LEVELS + 1)
#define BIT(episode) (1 << (episode))
#ifdef KEY_WITHOUT_EPISODE
#define KEY(number) LEVEL(number)
#else
#define KEY(number) (number)
#endif
#ifdef FALLBACK_KEY
#define KEY_AT(hop) (KEY(followed) + (hop) * ESCALATIONS)
#else
#define KEY_AT(hop) KEY(followed)
#endif

mtype = { open, acknowledged, resolved };                                    /* an incident's states */
mtype = { absent, pending, leased, cancelling, delivered, cancelled, superseded, handed_over, dead }; /* a page's */
mtype = { unsent, arrived, again, refused };                                 /* what a sender is told of its attempt */

typedef Row { mtype state = open; byte episode = 1; byte level; bool lock }
typedef Page {
    mtype state = absent; bool over; bool lock;
    byte hop;                   /* how often the page was handed over */
    bool seen_arrived;          /* the receiver has it */
    bool seen_doomed;           /* the incident was acknowledged or ended since it was made, by a write that cancels pages */
    byte seen_uncaused          /* copies, less those that a fault between claim and settlement is the cause of */
}
typedef Flight {
    bool held;                  /* the lease is committed, and it is neither settled nor given up */
    bool mine;                  /* the page's fence is still this flight's */
    bool seen_arrived;
    bool seen_fault
}

Row row;
byte events[ESCALATIONS];       /* the ledger: how often each escalation is recorded */
byte tick[WORKERS] = NONE;      /* the escalation that each worker's tick is about */
bool inserted[WORKERS];         /* whether its transaction has put the event in */
byte followed;                  /* the escalation whose page this is */
Page page;
Flight flight[WORKERS];
byte seen_ended;                /* episodes that are acknowledged or over now, as bits */
byte seen_ever_ended;           /* those that were at any time */
byte seen_base[EPISODES + 1];   /* the level that an episode began with */
bool I2, I3, I4, I5, I6;        /* false, always: the names of the invariants, for whoever reads a failure */

/* --- what holds after every step */

#define unsettled (page.state == leased || page.state == cancelling)
#define in_flight (flight[0].held || flight[1].held)
#define living(w) (flight[w].held && flight[w].mine && !page.over)
#define newer (LEVEL(followed) < LEVELS && events[followed + 1])

inline judge_record(n) {
    assert(I2 || events[n] <= 1);                                                      /* it is recorded once */
    assert(I2 || !events[n] || LEVEL(n) == seen_base[EPISODE(n)] + 1 || events[n - 1]) /* no level is left out */
}

inline judge() {
    assert(I3 || !events[followed] || page.state != absent || tick[0] == followed || tick[1] == followed);
    assert(I3 || page.state != delivered || page.seen_arrived || in_flight);             /* settled because it arrived */
    assert(I3 || page.state != cancelled || (seen_ever_ended & BIT(EPISODE(followed))));
    assert(I3 || !unsettled || page.over || in_flight);                                  /* or it comes back */
    assert(I3 || page.state != superseded || newer);                                     /* by a newer one */
    assert(I3 || page.state != handed_over);           /* the fallback has the page from the same commit on */
    assert(I5 || page.seen_uncaused <= 1)                                                /* a second copy has a cause */
}

/* --- the tick: one transaction */

inline claim(w) { /* a row that others hold is passed over */
    atomic {
#ifdef NO_LOCK
        row.state == open && row.level < LEVELS ->
#else
        !row.lock && row.state == open && row.level < LEVELS -> row.lock = true;
#endif
        tick[w] = NUMBER(row.episode, row.level + 1); printf("worker %d claims the incident\n", w)
    }
}

inline record(w) { /* one that another transaction has just put in is waited for: the key is unique */
    atomic {
#ifndef NO_UNIQUE_KEY
        !inserted[1 - w] || tick[1 - w] != tick[w];
#endif
        do /* a key that is there already is this escalation's, and of no other one */
        :: other < ESCALATIONS ->
            assert(I4 || other == tick[w] || !events[other] || KEY(other) != KEY(tick[w]));
            other++
        :: else -> break
        od;
        other = 0;
#ifdef NO_UNIQUE_KEY
        inserted[w] = true;
#else
        inserted[w] = !events[tick[w]];
#endif
        printf("worker %d records escalation %d\n", w, tick[w]);
#ifdef EVENT_OUTSIDE
        if :: inserted[w] -> events[tick[w]]++ :: else fi
#endif
    }
}

inline commit(w) { /* the event, its page and the level; if the event was there already, the level alone */
    atomic {
        true;
        if
        :: inserted[w] ->
#ifndef EVENT_OUTSIDE
            events[tick[w]]++;
#endif
            if :: tick[w] == followed && page.state == absent -> page.state = pending :: else fi
        :: else
        fi;
        row.level = LEVEL(tick[w]);
        printf("worker %d commits its tick\n", w);
        judge_record(tick[w]);
        roll_back(w)
    }
}

inline roll_back(w) {
    tick[w] = NONE; inserted[w] = false;
#ifndef NO_LOCK
    row.lock = false;
#endif
    judge()
}

inline crash_tick(w) { atomic { true; printf("worker %d dies in its tick\n", w); roll_back(w) }; goto end_idle }

proctype Ticker(byte w) {
    byte other;
end_idle:
    claim(w);
    if :: record(w) :: crash_tick(w) fi;
    if :: commit(w) :: crash_tick(w) fi;
    goto end_idle
}

/* --- delivery: claim, POST, settle */

#ifdef SUPERSEDE_LEASED
#define due (page.state == pending || unsettled)
#else
#define due (page.state == pending || (unsettled && page.over))
#endif
#define free (!page.lock)

inline look() { ended = (row.state != open || row.episode != EPISODE(followed)) }

inline settle(w, to) { page.state = to; page.over = false; flight[1 - w].mine = false } /* the fence is raised */

inline hand_over(w) { /* the page is settled, and the fallback's one is made */
    printf("worker %d hands the page over\n", w);
    assert(I5 || !living(1 - w));
#ifdef HAND_OVER_OUTSIDE
    settle(w, handed_over);
#else
    assert(I5 || !flight[1 - w].held || flight[1 - w].seen_fault); /* it cannot make a copy without a cause */
    settle(w, pending); page.hop++; assert(I4 || KEY_AT(page.hop) == KEY(followed));
    flight[1 - w].seen_arrived = false; page.seen_arrived = false; page.seen_uncaused = 0; page.seen_doomed = false
#endif
}

inline supersede(w) {
    printf("worker %d supersedes the page\n", w);
    assert(I5 || !living(1 - w));
    settle(w, superseded)
}

inline land(w) {
    flight[w].held = false; flight[w].mine = false; flight[w].seen_arrived = false; flight[w].seen_fault = false;
    ended = false; late = false; outcome = unsent; judge()
}

inline begin_claim(w) { /* the statement's snapshot of page and incident */
    atomic {
        due && free -> look(); late = page.seen_doomed || ((seen_ended & BIT(EPISODE(followed))) != 0);
        printf("worker %d begins to claim the page\n", w)
    }
}

inline lock_page(w) { /* what was changed since the snapshot is looked at again: the page is, the incident is not */
    atomic {
        true;
        if
        :: due && free -> page.lock = true
        :: else -> land(w); goto end_idle
        fi
    }
}

inline lease(w) {
    atomic {
        page.lock = false;
        if
#ifndef NO_ACK_CHECK
        :: ended || page.state == cancelling ->
            printf("worker %d cancels the page\n", w); settle(w, cancelled); land(w); goto end_idle
#endif
        :: else ->
            if
#ifdef SUPERSEDE_LEASED
            :: newer ->
#else
            :: page.state == pending && newer -> /* it may have been waiting for any time, or not */
#endif
                supersede(w); land(w); goto end_idle
            :: page.state == pending && page.hop < FALLBACKS -> hand_over(w); land(w); goto end_idle
            :: page.state == pending || page.over ->
                printf("worker %d leases the page\n", w);
                settle(w, leased); flight[w].held = true; flight[w].mine = true
#ifdef SUPERSEDE_LEASED
            :: else -> land(w); goto end_idle
#endif
            fi
        fi
    }
}

inline in_time(w) { /* a page whose lease is nearly over is left to whoever claims it next */
    atomic {
        true;
        if
        :: flight[w].mine && !page.over
        :: else -> printf("worker %d is too late to send\n", w); land(w); goto end_idle
        fi
    }
}

#ifdef NO_FENCING
#define fenced(w) false
#else
#define fenced(w) (!flight[w].mine)
#endif

inline receive(w) {
    printf("the receiver gets the page from worker %d\n", w);
    assert(I6 || !late);
    flight[w].seen_arrived = true;
    if :: !fenced(w) -> page.seen_arrived = true :: else fi; /* otherwise the page may be another target's by now */
    if :: flight[w].seen_fault :: else -> page.seen_uncaused++ fi;
    judge()
}

inline fault(w) { /* it falls between claim and settlement: if this flight makes a copy, then this is its cause */
    if :: flight[w].seen_arrived && !flight[w].seen_fault -> page.seen_uncaused-- :: else fi;
    flight[w].seen_fault = true
}

inline post(w) {
    atomic {
        true;
        if
        :: receive(w); outcome = arrived
        :: receive(w); fault(w); outcome = again; /* timed out, cut off, or an answer that says nothing */
            printf("and worker %d does not know\n", w)
        :: outcome = again; printf("worker %d fails to send\n", w)
        :: outcome = refused; printf("worker %d is refused\n", w)
        fi
    }
}

inline settle_delivered(w) { /* one statement, which looks at the fence and at nothing else */
    atomic {
        free -> printf("worker %d settles the page\n", w);
        if :: fenced(w) :: else -> settle(w, delivered) fi;
        land(w)
    }
}

inline lock_failed(w) {
    atomic {
        free -> look(); printf("worker %d looks at the page that failed\n", w);
        if :: fenced(w) -> land(w); goto end_idle :: else -> page.lock = true fi
    }
}

inline write_failed(w) {
    atomic {
        page.lock = false; printf("worker %d writes that it failed\n", w);
        if
        :: ended || page.state == cancelling -> settle(w, cancelled)
        :: else ->
            if
            :: outcome == refused && page.hop < FALLBACKS -> hand_over(w)
            :: outcome == refused && page.hop == FALLBACKS -> settle(w, dead)
            :: outcome != refused -> settle(w, pending)
            fi
        fi;
        land(w)
    }
}

inline abort() { atomic { true; page.lock = false; ended = false }; goto landed } /* what has landed is kept */

inline crash_flight(w, locked) { /* or just the reply to a COMMIT is lost; the lease runs on to its end */
    atomic {
        true;
        page.lock = page.lock && !locked; printf("worker %d dies in its delivery\n", w);
        if
        :: flight[w].held -> fault(w); if :: flight[w].mine && unsettled -> page.over = true :: else fi
        :: else
        fi;
        land(w)
    };
    goto end_idle
}

proctype Courier(byte w) {
    bool ended;                 /* whether the incident had ended, as the statement's snapshot has it */
    bool late;                  /* whether it had ended when the claim began, as somebody who sees everything knows */
    mtype outcome = unsent;
end_idle:
    begin_claim(w);
    if :: lock_page(w) :: crash_flight(w, false) fi;
    if :: lease(w) :: crash_flight(w, true) fi;
    if :: in_time(w) :: crash_flight(w, false) fi;
#ifdef SETTLE_FIRST
    atomic { free -> printf("worker %d settles the page\n", w); if :: fenced(w) :: else -> settle(w, delivered) fi };
    if :: post(w) :: crash_flight(w, false) fi;
    atomic { land(w) };
    goto end_idle;
#endif
    if :: post(w) :: crash_flight(w, false) fi;
landed:
    if
    :: outcome == arrived -> settle_delivered(w)
    :: outcome != arrived -> lock_failed(w); if :: write_failed(w) :: abort() :: crash_flight(w, true) fi
    :: crash_flight(w, false)
    fi;
    goto end_idle
}

/* --- the host, with the library's verbs and with SQL of its own, and the clock */

inline end_episode() {
    seen_ended = seen_ended | BIT(row.episode);
    seen_ever_ended = seen_ever_ended | BIT(row.episode)
}

inline change() {
    cancels = true;
    if
    :: row.state == open -> printf("the host acknowledges\n"); row.state = acknowledged; end_episode()
    :: row.state == acknowledged ->
        printf("the host takes the acknowledgement back\n");
        row.state = open; seen_ended = seen_ended & ~BIT(row.episode)
    :: row.state != resolved -> printf("the host resolves\n"); row.state = resolved; end_episode()
    :: row.state == resolved && row.episode < EPISODES ->
        printf("the host opens again\n"); row.state = open; row.episode++; row.level = 0
    :: row.state == open && row.level && row.episode < EPISODES ->
        printf("the host drains\n");
        end_episode(); row.episode++; row.level--; seen_base[row.episode] = row.level
    fi
}

inline cancel() { /* a pending page is; a leased one may finish; the statement does not see a page that is made meanwhile */
    if
    :: cancels && page.hop == hop && page.state == pending -> page.state = cancelled
    :: cancels && page.hop == hop && page.state == leased -> page.state = cancelling
    :: else
    fi;
    if :: page.state != absent && (seen_ended & BIT(EPISODE(followed))) -> page.seen_doomed = true :: else fi
}

inline retry_dead() {
    atomic {
        page.state == dead && free -> printf("the dead page is tried again\n");
        flight[0].mine = false; flight[1].mine = false; page.seen_doomed = false;
        if
        :: row.state == open && row.episode == EPISODE(followed) -> page.state = pending
        :: else -> page.state = cancelled
        fi;
        judge()
    }
}

#define may_change (!row.lock && (row.state != resolved || row.episode < EPISODES))

proctype Host() {
    bool cancels;
    byte hop;                   /* the page that the cancelling statement sees */
end_idle:
    if
    :: atomic { may_change -> row.lock = true; hop = page.hop };
        atomic { free -> change(); cancel(); row.lock = false; cancels = false; hop = 0; judge() }
    :: atomic { may_change -> change(); cancels = false; page.seen_doomed = false; judge() } /* the triggers are off */
    :: retry_dead()
    fi;
    goto end_idle
}

inline stall(w) { /* a sender stands still for longer than its lease, and does not know */
    atomic {
        flight[w].held && flight[w].mine && unsettled && !page.over ->
        printf("worker %d stands still\n", w); page.over = true; fault(w)
    }
}

proctype Clock() {
end_idle:
    if :: stall(0) :: stall(1) fi;
    goto end_idle
}

init {
    atomic {
        select(followed : 0 .. ESCALATIONS - 1);
        run Ticker(0); run Ticker(1); run Courier(0); run Courier(1); run Host(); run Clock()
    }
}
