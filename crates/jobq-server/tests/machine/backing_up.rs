//! Backups: one at a time, kept for whoever fetches it, and for no longer.

use jobq_proto::message::{Backup, BackupDone, BackupPhase, BackupRead, BackupState, Goodbye};
use jobq_proto::{ClientMessage, ErrorCode, ServerMessage};
use jobq_server::store::{
    BackupFailure, BackupFailureKind, BackupFile, BackupOrder, BackupReport, BackupState as Standing,
};
use jobq_transport::PeerId;
use uuid::Uuid;

use super::world::{World, secs};

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);

const FILE: BackupFile = BackupFile {
    bytes: 100_000,
    sha256: [7; 32],
    commit: 3,
    jobs: 2,
};

fn ask(world: &mut World, peer: PeerId, backup: Uuid) -> Result<BackupState, ErrorCode> {
    let request = world.next_request();
    world.send(peer, ServerMessage::Backup(Backup { request, backup }));
    match world.messages(peer).pop() {
        Some(ClientMessage::BackupState(state)) => {
            assert_eq!(state.request, request);
            Ok(*state)
        }
        Some(ClientMessage::Refused(refused)) => Err(refused.error.code),
        other => panic!("a Backup is answered at once: {other:?}"),
    }
}

fn phase(world: &mut World, peer: PeerId, backup: Uuid) -> BackupPhase {
    ask(world, peer, backup).expect("it is told").phase
}

/// What the store says of the copy.
fn report(world: &mut World, id: Uuid, state: Standing) {
    let now = world.now;
    world.machine.handle_backup(now, BackupReport { id, state });
    world.run();
}

fn read(world: &mut World, peer: PeerId, offset: u64, length: u64) -> Option<ErrorCode> {
    let request = world.next_request();
    let read = BackupRead {
        request,
        backup: A,
        offset,
        length,
    };
    world.send(peer, ServerMessage::BackupRead(read));
    match world.messages(peer).pop() {
        Some(ClientMessage::Refused(refused)) => Some(refused.error.code),
        Some(other) => panic!("the memory store has no copy to read: {other:?}"),
        None => None,
    }
}

#[test]
fn a_backup_goes_through_its_phases_and_is_removed_when_it_has_been_fetched() {
    let mut world = World::new();
    let client = world.client();
    assert_eq!(phase(&mut world, client, A), BackupPhase::Copying);
    assert_eq!(world.backups, [BackupOrder::Begin(A)]);
    report(&mut world, A, Standing::Copying { done: 5, of: 10 });
    let state = ask(&mut world, client, A).expect("it is told");
    assert_eq!((state.phase, state.done, state.of), (BackupPhase::Copying, 5, 10));
    assert_eq!(
        read(&mut world, client, 0, 10),
        Some(ErrorCode::NotFound),
        "not yet"
    );
    report(&mut world, A, Standing::Checking { done: 1, of: 2 });
    assert_eq!(phase(&mut world, client, A), BackupPhase::Checking);
    report(&mut world, A, Standing::Ready(FILE));
    let file = ask(&mut world, client, A).expect("it is told").file;
    assert_eq!(file.map(|file| (file.bytes, file.jobs)), Some((100_000, 2)));
    for _ in 0..2 {
        let request = world.next_request();
        let done = BackupDone { request, backup: A };
        world.send(client, ServerMessage::BackupDone(done));
        let answer = world.messages(client).pop();
        assert!(
            matches!(&answer, Some(ClientMessage::BackupState(state)) if state.phase == BackupPhase::Gone),
            "{answer:?}"
        );
    }
    assert_eq!(world.backups, [BackupOrder::Begin(A), BackupOrder::Drop(A)]);
}

#[test]
fn there_is_one_backup_at_a_time() {
    let mut world = World::new();
    let (one, two) = (world.client(), world.client());
    assert_eq!(phase(&mut world, one, A), BackupPhase::Copying);
    assert_eq!(ask(&mut world, two, B), Err(ErrorCode::BackupRunning));
    assert!(ErrorCode::BackupRunning.may_repeat());
    let failure = BackupFailure {
        kind: BackupFailureKind::NoRoom,
        message: "no room".to_owned(),
    };
    report(&mut world, A, Standing::Failed(failure));
    let error = ask(&mut world, one, A).expect("it is told").error;
    assert_eq!(error.map(|error| error.code), Some(ErrorCode::StorageFull));
    assert_eq!(
        phase(&mut world, two, B),
        BackupPhase::Copying,
        "one that failed is in nobody's way"
    );
    let orders = [BackupOrder::Begin(A), BackupOrder::Drop(A), BackupOrder::Begin(B)];
    assert_eq!(world.backups, orders);
}

#[test]
fn a_backup_that_nobody_asks_for_is_removed_and_one_that_somebody_does_is_kept() {
    let mut world = World::new();
    let client = world.client();
    phase(&mut world, client, A);
    for _ in 0..5 {
        world.advance(secs(20));
        assert_eq!(phase(&mut world, client, A), BackupPhase::Copying);
    }
    assert_eq!(world.backups, [BackupOrder::Begin(A)]);
    world.advance(secs(31));
    assert_eq!(world.backups, [BackupOrder::Begin(A), BackupOrder::Drop(A)]);
}

#[test]
fn a_client_that_is_gone_has_a_moment_to_come_back_for_its_backup() {
    let mut world = World::new();
    let client = world.client();
    phase(&mut world, client, A);
    world.disconnect(client);
    world.advance(secs(4));
    let client = world.client();
    assert_eq!(phase(&mut world, client, A), BackupPhase::Copying);
    world.advance(secs(10));
    assert_eq!(world.backups, [BackupOrder::Begin(A)], "it came back");
    world.disconnect(client);
    world.advance(secs(6));
    assert_eq!(world.backups, [BackupOrder::Begin(A), BackupOrder::Drop(A)]);
}

#[test]
fn whoever_says_goodbye_leaves_its_backup_as_if_the_connection_were_gone() {
    let mut world = World::new();
    let client = world.client();
    phase(&mut world, client, A);
    world.send(client, ServerMessage::Goodbye(Goodbye {}));
    world.advance(secs(6));
    assert_eq!(world.backups, [BackupOrder::Begin(A), BackupOrder::Drop(A)]);
}

#[test]
fn a_stop_gives_the_backup_up_and_begins_no_other() {
    let mut world = World::new();
    let client = world.client();
    phase(&mut world, client, A);
    let now = world.now;
    world.machine.handle_shutdown(now);
    world.run();
    assert_eq!(world.backups, [BackupOrder::Begin(A), BackupOrder::Drop(A)]);
    world.messages(client);
    assert_eq!(ask(&mut world, client, B), Err(ErrorCode::ShuttingDown));
}

#[test]
fn parts_that_make_no_sense_and_too_many_of_them_are_refused() {
    let mut world = World::new();
    let client = world.client();
    phase(&mut world, client, A);
    report(&mut world, A, Standing::Ready(FILE));
    assert_eq!(read(&mut world, client, 0, 0), Some(ErrorCode::BadRequest));
    let longer = BackupRead::MAX_LENGTH + 1;
    assert_eq!(read(&mut world, client, 0, longer), Some(ErrorCode::BadRequest));
    assert_eq!(read(&mut world, client, 100_001, 1), Some(ErrorCode::BadRequest));
    world.hold_reads();
    for _ in 0..BackupRead::MAX_UNANSWERED {
        assert_eq!(read(&mut world, client, 0, 10), None);
    }
    assert_eq!(read(&mut world, client, 0, 10), Some(ErrorCode::WindowExceeded));
    assert!(world.machine.accepts(), "parts are in nobody's way");
    world.release_reads();
    let refused = world.messages(client);
    assert_eq!(
        refused.len(),
        BackupRead::MAX_UNANSWERED,
        "the store's copy is gone: {refused:?}"
    );
}
