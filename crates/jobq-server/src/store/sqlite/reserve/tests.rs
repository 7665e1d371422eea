use super::*;

/// So small that every machine that can build this has it.
const ASKED: u64 = 1024 * 1024;

/// Growth that leaves no room on any file system.
const ALL: u64 = u64::MAX;

#[test]
fn too_little_room_is_said_until_there_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let mut reserve = Reserve::new(dir.path(), ASKED);
    assert_eq!(reserve.look(0), Space::Enough);
    assert_eq!(reserve.look(ALL), Space::Short);
    assert_eq!(reserve.look(ALL), Space::Short);
    assert_eq!(reserve.look(0), Space::Enough);
}

#[test]
fn the_ballast_has_its_room_and_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let ballast = dir.path().join(BALLAST);
    let mut reserve = Reserve::new(dir.path(), ASKED);
    reserve.look(0);
    assert_eq!(ballast.metadata().unwrap().len(), ASKED / BALLAST_PART);
    assert!(reserve.ran_out(&StoreError::NoRoom));
    assert!(!ballast.exists());
    assert_eq!(reserve.look(ALL), Space::Full);
    assert!(!ballast.exists());
    assert_eq!(reserve.look(0), Space::Enough);
    assert!(ballast.exists());
}

#[test]
fn where_room_cannot_be_promised_the_ballast_grows_a_little_each_time_it_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let ballast = dir.path().join(BALLAST);
    let whole = 2 * GROW + 1_000;
    let mut reserve = Reserve::new(dir.path(), whole * BALLAST_PART);
    create(&ballast).unwrap();
    reserve.ballast = Ballast::Growing(0);
    for length in [GROW, 2 * GROW] {
        assert_eq!(reserve.look(0), Space::Enough);
        assert_eq!(ballast.metadata().unwrap().len(), length);
        assert!(!reserve.is_at_rest(), "it is looked at again soon");
    }
    reserve.look(0);
    assert_eq!(ballast.metadata().unwrap().len(), whole);
    assert!(reserve.is_at_rest());
    reserve.ballast = Ballast::Growing(whole / 2);
    assert!(reserve.drop_ballast(), "what there is of it is given up too");
    assert!(!ballast.exists());
}

#[test]
fn what_a_file_lacks_beside_the_reserve_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let reserve = Reserve::new(dir.path(), ASKED);
    assert_eq!(reserve.lacks_for(1, 0), None);
    let free = reserve.free().unwrap();
    let lacks = reserve.lacks_for(free, 0).unwrap();
    assert!(lacks > ASKED / 2, "the reserve is missing: {lacks}");
    assert!(reserve.lacks_for(1, ALL).is_some());
}

#[test]
fn a_failed_write_with_room_is_no_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut reserve = Reserve::new(dir.path(), ASKED);
    let failed = StoreError::Database {
        operation: "write",
        source: rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_WRITE),
            None,
        ),
    };
    assert!(failed.is_failed_write());
    assert!(!reserve.ran_out(&failed));
    assert_eq!(reserve.space(), Space::Enough);
    assert!(!dir.path().join(PROBE).exists());
}

#[test]
fn without_a_reserve_there_is_always_enough_and_no_ballast() {
    let dir = tempfile::tempdir().unwrap();
    let mut reserve = Reserve::new(dir.path(), 0);
    assert_eq!(reserve.look(ALL), Space::Enough);
    assert!(!dir.path().join(BALLAST).exists());
}

#[test]
fn without_a_reserve_there_is_enough_again_when_a_file_can_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut reserve = Reserve::new(dir.path(), 0);
    assert!(reserve.ran_out(&StoreError::NoRoom));
    assert_eq!(reserve.space(), Space::Full);
    reserve.found_room();
    assert_eq!(reserve.space(), Space::Short);
    assert_eq!(reserve.look(0), Space::Enough);
    assert!(!dir.path().join(PROBE).exists());
}

#[test]
fn a_file_system_is_at_most_a_quarter_reserve() {
    let reserve = Reserve::new(Path::new("."), 256);
    let of = |total| reserve.bytes(Room { total, free: 0 });
    assert_eq!((of(10_000), of(1_024), of(400)), (256, 256, 100));
}

#[test]
fn a_file_can_be_filled_where_room_cannot_be_promised() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("filled");
    fill(&path, 100_000).unwrap();
    assert_eq!(path.metadata().unwrap().len(), 100_000);
}
