//! Who is let in, for how long, and whose a session is.

use std::time::Duration;

use jobq_proto::message::*;
use jobq_proto::{ErrorCode, ServerMessage};
use jobq_server::Config;
use jobq_server::access::{NamePatterns, Proof, Scope, Token, TokenHash, Tokens};
use jobq_server::time::Wall;
use jobq_transport::PeerId;

use super::world::{Shown, World, held, job, millis, secs, work};

/// An entry for whoever shows its name as a token.
pub(super) fn token(name: &str, scope: Scope, only: &[&str]) -> Token {
    Token {
        id: format!("id-{name}"),
        name: name.to_owned(),
        scope,
        only: NamePatterns::new(only.iter().map(|pattern| (*pattern).to_owned()).collect())
            .expect("they are patterns"),
        created: Wall(0),
        expires: None,
        proof: Proof::Token(TokenHash::of(name)),
    }
}

fn certificate(name: &str, scope: Scope) -> Token {
    Token {
        proof: Proof::Certificate,
        ..token(name, scope, &[])
    }
}

pub(super) fn world_of(tokens: Vec<Token>) -> World {
    World::configured(|config| config.tokens = Some(Tokens::new(tokens)))
}

impl World {
    /// Peers show this token from now on.
    pub(super) fn show(&mut self, token: &str) {
        self.shown.token = Some(token.to_owned());
    }

    fn show_certificate(&mut self, name: &str) {
        self.shown = Shown {
            certificate: Some(name.to_owned()),
            ..Shown::default()
        };
    }

    fn reload(&mut self, tokens: Vec<Token>) {
        let now = self.now;
        self.machine.handle_tokens(now, Some(Tokens::new(tokens)));
        self.run();
    }

    /// How a client's connection ends that says hello now; none if it is let in.
    fn refused_now(&mut self) -> Option<ErrorCode> {
        let (peer, welcome) = self.hello(None, None);
        if welcome.is_none() {
            self.answer_takes(peer);
        }
        self.closed(peer)
    }

    /// How long it takes until a wrong token is answered.
    fn refusal_takes(&mut self, token: &str) -> Duration {
        self.show(token);
        let (peer, welcome) = self.hello(None, None);
        assert_eq!(welcome, None);
        self.answer_takes(peer)
    }

    fn answer_takes(&mut self, peer: PeerId) -> Duration {
        let begun = self.now.mono;
        self.silence(peer); // Nothing comes from it before it is let in.
        while self.is_open(peer) && self.messages(peer).is_empty() {
            self.advance(millis(50));
            assert!(self.now.mono.since(begun) < secs(10), "it is answered at last");
        }
        self.now.mono.since(begun)
    }
}

#[test]
fn without_tokens_anybody_is_let_in_whatever_they_show() {
    let mut world = World::new();
    assert_eq!(world.refused_now(), None);
    world.show("anything");
    assert_eq!(world.refused_now(), None);
}

#[test]
fn a_list_of_tokens_keeps_everybody_else_out_even_an_empty_one() {
    let mut world = world_of(vec![]);
    assert_eq!(world.refused_now(), Some(ErrorCode::BadToken));
    world.reload(vec![token("a", Scope::Admin, &[])]);
    assert_eq!(world.refused_now(), Some(ErrorCode::BadToken));
    world.show("a");
    assert_eq!(world.refused_now(), None);
}

#[test]
fn the_shared_token_and_those_of_the_list_are_good_side_by_side() {
    let mut world = World::configured(|config| {
        config.token = Some("shared".to_owned());
        config.tokens = Some(Tokens::new(vec![token("own", Scope::Submit, &[])]));
    });
    for (shown, expected) in [
        ("shared", None),
        ("own", None),
        ("other", Some(ErrorCode::BadToken)),
        ("", Some(ErrorCode::BadToken)),
    ] {
        world.show(shown);
        assert_eq!(world.refused_now(), expected, "{shown:?}");
        world.advance(secs(61));
    }
}

#[test]
fn missing_wrong_unknown_expired_and_revoked_tokens_have_the_same_answer() {
    let expired = Token {
        expires: Some(Wall(1)),
        ..token("expired", Scope::Admin, &[])
    };
    let mut world = world_of(vec![expired.clone(), token("revoked", Scope::Admin, &[])]);
    world.reload(vec![expired]);
    let mut answers = Vec::new();
    for shown in [
        None,
        Some("revoke"),
        Some("unknown"),
        Some("expired"),
        Some("revoked"),
    ] {
        world.shown.token = shown.map(str::to_owned);
        let (peer, _) = world.hello(None, None);
        world.advance(secs(61));
        let close = format!("{peer}: Close(PeerId({}), ", peer.0);
        let close = close
            .split_once(": ")
            .map(|(_, close)| close.to_owned())
            .expect("it has both");
        let answer = world
            .trace
            .iter()
            .find_map(|line| line.strip_prefix(&close).map(str::to_owned));
        answers.push(answer.expect("the connection is closed"));
    }
    assert!(answers[0].contains("BadToken"), "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[test]
fn a_token_that_expires_ends_its_connections_and_no_others() {
    let mut world = World::new();
    let soon = Token {
        expires: Some(world.now.wall.plus(secs(90))),
        ..token("soon", Scope::Admin, &[])
    };
    world.reload(vec![soon, token("never", Scope::Admin, &[])]);
    world.show("soon");
    let client = world.client();
    world.show("never");
    let other = world.client();
    world.advance(secs(89));
    assert!(world.is_open(client));
    world.advance(secs(1));
    assert_eq!(world.closed(client), Some(ErrorCode::BadToken));
    assert!(world.is_open(other));
    world.show("soon");
    assert_eq!(world.refused_now(), Some(ErrorCode::BadToken));
}

#[test]
fn a_calendar_that_is_set_ahead_is_noticed_within_a_minute() {
    let mut world = World::new();
    let token = Token {
        expires: Some(world.now.wall.plus(secs(3_600))),
        ..token("a", Scope::Admin, &[])
    };
    world.reload(vec![token]);
    world.show("a");
    let client = world.client();
    world.now.wall = world.now.wall.plus(secs(7_200));
    world.advance(secs(60));
    assert_eq!(world.closed(client), Some(ErrorCode::BadToken));
}

#[test]
fn a_server_without_expiring_tokens_in_use_has_no_timer_for_them() {
    let mut world = world_of(vec![token("a", Scope::Admin, &[])]);
    world.show("a");
    let client = world.client();
    world.disconnect(client);
    assert_eq!(
        world
            .machine
            .poll_timeout()
            .filter(|at| *at > world.now.mono.plus(secs(31))),
        None
    );
}

#[test]
fn revoking_a_token_leaves_the_connections_of_the_others_alone() {
    let mut world = world_of(vec![token("a", Scope::Admin, &[]), token("b", Scope::Work, &[])]);
    world.show("a");
    let client = world.client();
    world.show("b");
    let worker = world.worker(&[("x", 1)]);
    world.reload(vec![token("a", Scope::Admin, &[]), token("c", Scope::Work, &[])]);
    assert!(world.is_open(client));
    assert_eq!(world.closed(worker.peer), Some(ErrorCode::BadToken));
    world.submit_one(client, job("x"));
}

#[test]
fn what_a_revoked_worker_ran_runs_again_and_is_not_charged() {
    let mut world = world_of(vec![token("a", Scope::Admin, &[]), token("b", Scope::Work, &[])]);
    world.show("a");
    let client = world.client();
    let id = world.submit_one(client, job("x"));
    world.show("b");
    let worker = world.worker(&[("x", 1)]);
    let order = world.order(&worker);
    world.started(&worker, &order);
    world.reload(vec![token("a", Scope::Admin, &[])]);
    world.show("a");
    let next = world.worker(&[("x", 1)]);
    assert!(
        world.orders(&next).is_empty(),
        "its runs are given up when its grace is over"
    );
    world.advance(secs(5));
    assert_eq!(world.order(&next).id, id);
    assert_eq!(world.view(id).charges, 0);
}

#[test]
fn when_the_first_token_is_made_those_who_came_without_have_to_come_anew() {
    let mut world = World::new();
    let client = world.client();
    world.reload(vec![token("a", Scope::Admin, &[])]);
    assert_eq!(world.closed(client), Some(ErrorCode::BadToken));
}

#[test]
fn who_may_do_something_else_from_now_on_comes_back_and_finds_it() {
    let mut world = world_of(vec![token("a", Scope::Admin, &[])]);
    world.show("a");
    let worker = world.worker(&[("x", 1)]);
    world.reload(vec![token("a", Scope::Work, &["x", "y"])]);
    let code = world.closed(worker.peer);
    assert!(code.is_some_and(ErrorCode::may_repeat), "{code:?}");
    let again = world.resume(&worker, vec![]);
    assert!(again.welcome.resumed, "the session is still its own");
    world.reload(vec![Token {
        expires: Some(world.now.wall.plus(secs(3_600))),
        ..token("a", Scope::Work, &["x", "y"])
    }]);
    assert!(world.is_open(again.peer), "what it may do has not changed");
}

#[test]
fn a_session_is_resumed_only_by_whoever_opened_it() {
    let mut world = World::configured(|config| {
        config.token = Some("shared".to_owned());
        config.tokens = Some(Tokens::new(vec![
            token("a", Scope::Work, &[]),
            Token {
                name: "a".to_owned(),
                ..token("a2", Scope::Work, &[])
            },
            token("b", Scope::Work, &[]),
            token("admin", Scope::Admin, &[]),
        ]));
    });
    world.show("admin");
    let client = world.client();
    world.submit_one(client, job("x"));
    world.show("a");
    let worker = world.worker(&[("x", 1)]);
    let order = world.order(&worker);
    world.started(&worker, &order);
    for thief in ["b", "admin", "shared"] {
        world.show(thief);
        let stolen = world.resume(&worker, vec![held(&order, RunState::Running)]);
        assert!(
            !stolen.welcome.resumed,
            "{thief} has the secret, and is somebody else"
        );
        assert!(world.is_open(worker.peer), "its connection is its own");
        assert_eq!(
            world.settled(&stolen),
            [SettleOutcome::Stale],
            "it is told to stop"
        );
        world.completed(&stolen, &order);
        assert_eq!(world.settled(&stolen), [SettleOutcome::Stale]);
    }
    world.show("a2");
    let rotated = world.resume(&worker, vec![held(&order, RunState::Running)]);
    assert!(
        rotated.welcome.resumed,
        "another token of the same name is the same identity"
    );
    world.completed(&rotated, &order);
    assert_eq!(world.settled(&rotated), [SettleOutcome::Applied]);
}

#[test]
fn whose_a_session_is_outlasts_a_restart() {
    let mut world = world_of(vec![token("a", Scope::Work, &[]), token("b", Scope::Work, &[])]);
    world.show("a");
    let worker = world.worker(&[("x", 1)]);
    world.crash_and_restart();
    world.show("b");
    assert!(!world.resume_silently(&worker).welcome.resumed);
    world.show("a");
    assert!(world.resume_silently(&worker).welcome.resumed);
}

#[test]
fn a_secret_of_another_length_resumes_nothing() {
    let mut world = World::new();
    let worker = world.worker(&[("x", 1)]);
    let mut longer = worker.resume();
    longer.secret = [&longer.secret[..], b"token:a"].concat().into();
    let (_, welcome) = world.hello(Some(worker.work.clone()), Some(longer));
    assert!(!welcome.expect("it is welcome").resumed);
}

#[test]
fn a_certificate_allows_everything_where_there_is_no_list_and_else_what_its_entry_says() {
    let mut world = World::configured(|config| config.certificates = true);
    assert_eq!(world.refused_now(), Some(ErrorCode::BadToken), "nothing is shown");
    world.show_certificate("worker-1");
    let one = world.client();
    world.show_certificate("worker-2");
    let two = world.client();
    world.reload(vec![certificate("worker-1", Scope::Admin)]);
    assert!(world.is_open(one));
    assert_eq!(world.closed(two), Some(ErrorCode::BadToken));
    assert_eq!(world.refused_now(), Some(ErrorCode::BadToken));
    world.show_certificate("worker-1");
    assert_eq!(world.refused_now(), None);
}

#[test]
fn revoking_the_last_certificate_shuts_it_out() {
    let mut world = World::configured(|config| config.certificates = true);
    world.reload(vec![certificate("worker-1", Scope::Work)]);
    world.show_certificate("worker-1");
    let client = world.client();
    world.reload(vec![]);
    assert_eq!(world.closed(client), Some(ErrorCode::BadToken));
    assert_eq!(world.refused_now(), Some(ErrorCode::BadToken));
}

#[test]
fn a_token_counts_for_more_than_a_certificate_and_the_two_are_two_identities() {
    let mut world = World::configured(|config| {
        config.certificates = true;
        config.tokens = Some(Tokens::new(vec![
            token("a", Scope::Work, &[]),
            certificate("a", Scope::Work),
        ]));
    });
    world.show_certificate("a");
    let worker = world.worker(&[("x", 1)]);
    world.show("a");
    assert!(!world.resume_silently(&worker).welcome.resumed);
    world.show("wrong");
    assert_eq!(
        world.refused_now(),
        Some(ErrorCode::BadToken),
        "the certificate does not help"
    );
}

#[test]
fn wrong_tokens_from_one_place_are_answered_later_and_later() {
    let mut world = World::configured(|config| config.token = Some("shared".to_owned()));
    world.shown.address = Some("192.0.2.1:1".to_owned());
    let takes: Vec<u128> = (0..4).map(|_| world.refusal_takes("wrong").as_millis()).collect();
    assert_eq!(takes, [0, 100, 200, 400]);
    world.shown.address = Some("192.0.2.2:1".to_owned());
    assert_eq!(
        world.refusal_takes("wrong"),
        Duration::ZERO,
        "another place is another matter"
    );
}

#[test]
fn the_shared_token_waits_as_a_wrong_one_does_and_is_let_in_all_the_same() {
    let mut world = World::configured(|config| config.token = Some("shared".to_owned()));
    world.shown.address = Some("192.0.2.1:1".to_owned());
    for _ in 0..20 {
        world.show("wrong");
        world.hello(None, None);
    }
    world.advance(secs(3));
    let wrong = world.refusal_takes("wrong");
    world.show("shared");
    let (peer, welcome) = world.hello(None, None);
    assert_eq!(welcome, None, "an answer at once would tell it from a wrong one");
    assert_eq!(world.answer_takes(peer), wrong);
    assert!(world.is_open(peer));
    assert_eq!(wrong, secs(2), "nobody is locked out");
}

#[test]
fn where_more_tokens_are_shown_than_get_a_turn_right_and_wrong_ones_are_sent_away_alike() {
    let mut world = World::configured(|config| {
        config.token = Some("shared".to_owned());
        config.tokens = Some(Tokens::new(vec![token("own", Scope::Admin, &[])]));
    });
    world.shown.address = Some("192.0.2.1:1".to_owned());
    for _ in 0..100 {
        world.show("wrong");
        world.hello(None, None);
    }
    for shown in ["wrong", "shared"] {
        world.show(shown);
        assert_eq!(world.refused_now(), Some(ErrorCode::TooManyPeers), "{shown}");
    }
    world.show("own");
    world.client();
    world.shown.address = Some("192.0.2.2:1".to_owned());
    world.show("shared");
    world.client();
}

#[test]
fn a_token_of_ones_own_and_a_session_that_goes_on_never_wait() {
    let mut world = World::configured(|config| {
        config.token = Some("shared".to_owned());
        config.tokens = Some(Tokens::new(vec![token("own", Scope::Admin, &[])]));
    });
    world.shown.address = Some("192.0.2.1:1".to_owned());
    world.show("shared");
    let worker = world.worker(&[("x", 1)]);
    for _ in 0..20 {
        world.show("wrong");
        world.hello(None, None);
    }
    world.show("own");
    world.client();
    world.show("shared");
    assert!(world.resume_silently(&worker).welcome.resumed);
}

#[test]
fn a_hello_that_waits_is_the_only_one_and_is_looked_at_again_when_its_time_has_come() {
    let mut world = World::configured(|config| config.token = Some("shared".to_owned()));
    world.shown.address = Some("192.0.2.1:1".to_owned());
    world.refusal_takes("wrong");
    world.show("shared");
    let (peer, _) = world.hello(None, None);
    let hello = Hello::new("");
    world.send(peer, ServerMessage::Hello(Box::new(hello)));
    assert_eq!(world.closed(peer), Some(ErrorCode::HelloRepeated));
    let (gone, _) = world.hello(None, None);
    world.disconnect(gone);
    world.advance(secs(3));
}

#[test]
fn a_worker_is_refused_by_a_token_that_is_not_for_work() {
    let mut world = world_of(vec![token("a", Scope::Submit, &[])]);
    world.show("a");
    let (peer, welcome) = world.hello(Some(work(&[("x", 1)])), None);
    assert_eq!((world.closed(peer), welcome), (Some(ErrorCode::Forbidden), None));
}

#[test]
fn settings_are_written_for_people_without_the_token() {
    let mut config = Config::default();
    config.token = Some("canary".to_owned());
    let text = format!("{config:?}");
    assert!(!text.contains("canary") && text.contains("token: Some"), "{text}");
}

#[test]
fn however_many_show_wrong_tokens_only_some_wait_for_their_answer_and_others_are_let_in() {
    let mut world = World::configured(|config| {
        config.tokens = Some(Tokens::new(vec![token("own", Scope::Admin, &[])]));
        config.late_answers = 3;
    });
    let flood = |world: &mut World| {
        let mut waiting = Vec::new();
        for place in 0..20 {
            world.shown.address = Some(format!("192.0.2.{}:1", place % 5));
            world.show("wrong");
            let (peer, _) = world.hello(None, None);
            match world.closed(peer) {
                None => waiting.push(peer),
                Some(code) => assert!(matches!(code, ErrorCode::BadToken | ErrorCode::TooManyPeers)),
            }
        }
        waiting
    };
    for _ in 0..3 {
        let waiting = flood(&mut world);
        assert_eq!(waiting.len(), 3);
        world.show("own");
        let client = world.client();
        world.disconnect(client);
        for &peer in &waiting {
            world.silence(peer);
        }
        world.advance(secs(5));
        for peer in waiting {
            assert_eq!(world.closed(peer), Some(ErrorCode::BadToken), "its turn comes");
        }
    }
}
