//! A peer that keeps to no rule: it says what it likes, about whomever it likes.

use std::collections::VecDeque;

use jobq_proto::message::{
    Beat, Completed, CompletedRun, Failed, FailedRun, HeldRun, Hello, Holding, NameCredit, Released, RunRef,
    RunState, Started, Unwatch, Watch, Work,
};
use jobq_proto::{ClientMessage, Fence, PROTOCOL_VERSION, ServerMessage};

use super::agenda::{ConnId, Event, MILLI, PeerIx, SECOND};
use super::ctx::Ctx;
use super::net::Parcel;
use super::plan::{NAMES, Span};

/// One of them.
pub(super) struct Rogue {
    me: PeerIx,
    conn: Option<ConnId>,
    is_open: bool,
    inbox: VecDeque<(ConnId, Parcel<ClientMessage>)>,
}

impl Rogue {
    pub(super) fn new(me: PeerIx) -> Self {
        Self {
            me,
            conn: None,
            is_open: false,
            inbox: VecDeque::new(),
        }
    }

    pub(super) fn arrives(&mut self, ctx: &mut Ctx, conn: ConnId) {
        while let Some(parcel) = ctx.take_down(conn) {
            self.inbox.push_back((conn, parcel));
        }
        ctx.after(0, Event::Peer(self.me));
    }

    pub(super) fn step(&mut self, _: &mut Ctx) {
        while let Some((conn, parcel)) = self.inbox.pop_front() {
            if self.conn == Some(conn) {
                match parcel {
                    Parcel::Open => self.is_open = true,
                    Parcel::End => self.conn = None,
                    Parcel::Message(..) => {}
                }
            }
        }
    }

    /// It says something.
    pub(super) fn act(&mut self, ctx: &mut Ctx) {
        if ctx.calm {
            if let Some(conn) = self.conn.take() {
                ctx.close_by_peer(conn);
            }
            return;
        }
        let wait = ctx.draw(Span(100 * MILLI, 4 * SECOND));
        ctx.after(wait, Event::Act(self.me));
        let Some(conn) = self.conn else {
            self.conn = Some(ctx.connect(Some(self.me)));
            self.is_open = false;
            return;
        };
        if !self.is_open {
            return;
        }
        if ctx.chance.percent(5) {
            self.conn = None;
            return ctx.close_by_peer(conn);
        }
        ctx.tally.count("things said by rogues");
        let message = anything(ctx);
        ctx.send_up(conn, message);
    }
}

/// Something that a peer might say, true or not.
fn anything(ctx: &mut Ctx) -> ServerMessage {
    let id = ctx
        .model
        .any_ids(&mut ctx.chance, 1)
        .first()
        .copied()
        .unwrap_or(1);
    let fence = ctx.model.current_run(id).map_or(
        Fence {
            epoch: ctx.chance.between(0, 3),
            seq: ctx.chance.between(0, 30),
        },
        |(fence, _)| fence,
    );
    let run = RunRef { id, fence };
    let request = ctx.chance.between(0, 5);
    match ctx.chance.between(0, 13) {
        0..=3 => ServerMessage::Hello(Box::new(Hello {
            version: PROTOCOL_VERSION,
            label: "rogue".to_owned(),
            token: None,
            work: ctx.chance.percent(60).then(|| Work {
                names: vec![NameCredit {
                    // Not a name of jobs: it would take them and never give them back.
                    name: format!("no-{}", NAMES[0]),
                    jobs: 3,
                }],
                jobs: 3,
                bytes: 1_000,
                prefetch: 0,
            }),
            resume: None,
        })),
        4 => ServerMessage::Completed(Completed {
            runs: vec![CompletedRun {
                id,
                fence,
                ran: 1,
                result: None,
            }],
        }),
        5 => ServerMessage::Failed(Failed {
            runs: vec![FailedRun {
                id,
                fence,
                ran: 1,
                reason: "because".to_owned(),
                never: true,
                after: None,
            }],
        }),
        6 => ServerMessage::Released(Released { runs: vec![run] }),
        7 => ServerMessage::Started(Started { runs: vec![run] }),
        8 | 9 => ServerMessage::Holding(Holding {
            runs: vec![HeldRun {
                id,
                fence,
                state: RunState::Running,
            }],
        }),
        10 => ServerMessage::Watch(Watch {
            request,
            ids: vec![id],
            bytes: 10,
            progress: true,
        }),
        11 => ServerMessage::Unwatch(Unwatch { request }),
        12 => ServerMessage::Goodbye(jobq_proto::message::Goodbye {}),
        _ => ServerMessage::Beat(Beat { seq: request }),
    }
}
