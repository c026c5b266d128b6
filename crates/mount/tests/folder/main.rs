//! Use a folder as programs do, over objects in memory; change them behind its back, and refuse what it stores.

mod memory;
mod world;

use hodei_mount::{Event, Opening, Rename, Wrong};
use memory::Memory;
use std::{sync::atomic::Ordering, time::Duration};
use world::{READ, ROOT, WRITE, World};

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 7 + at / 256) as u8).collect()
}

#[tokio::test]
async fn keys_are_folders_and_files() {
    let world = World::new("keys");
    for key in ["a", "d/b", "d/e/c", "d/e/", "empty/", "x//y", "../up", "file", "file.txt", "file/below"] {
        world.store.put(key, key.as_bytes());
    }
    assert_eq!(world.names("").await, ["a", "d/", "empty/", "file/", "file.txt", "x/"]);
    assert_eq!(world.names("d").await, ["b", "e/"]);
    assert_eq!((world.names("d/e").await, world.names("empty").await), (vec!["c".to_owned()], vec![]));
    assert_eq!(world.load("d/e/c").await.unwrap(), b"d/e/c");
    let attr = world.stat("d/b").await.unwrap();
    assert_eq!((attr.size_bytes, attr.mtime_ms, attr.is_folder), (3, 5_000, false));
    assert!(world.stat("file").await.unwrap().is_folder && world.stat("empty").await.unwrap().is_folder);
    assert_eq!(world.stat("..").await, Err(Wrong::NotFound));
    assert_eq!(world.stat("absent/below").await, Err(Wrong::NotFound));
    let hidden: Vec<_> = world.told().into_iter().filter(|event| matches!(event, Event::Hidden { .. })).collect();
    assert_eq!(hidden.len(), 1, "it is told once: {hidden:?}");
}

#[tokio::test]
async fn a_prefix_is_all_there_is() {
    let store = Memory::default();
    for key in ["p/a", "p/d/b", "q/c", "p"] {
        store.put(key, b"1");
    }
    let world = World::over("prefix", store, |config| config.prefix = "p/".into(), None);
    assert_eq!(world.names("").await, ["a", "d/"]);
    world.save("d/new", b"2").await.unwrap();
    assert_eq!(world.store.get("p/d/new").unwrap(), b"2");
}

#[tokio::test]
async fn a_large_folder_comes_page_by_page() {
    let world = World::new("large");
    for at in 0..2_500 {
        world.store.put(&format!("big/{at:05}"), b"");
    }
    let names = world.names("big").await;
    assert_eq!((names.len(), names[0].as_str(), names[2_499].as_str()), (2_500, "00000", "02499"));
    assert!(names.is_sorted());
    assert!(world.stat("big/02400").await.is_ok());
    assert_eq!(world.stat("big/absent").await, Err(Wrong::NotFound));
    // Back to the beginning, as rewinddir does.
    let mut cursor = world.folder.list(world.stat("big").await.unwrap().ino).unwrap();
    assert_eq!(world.folder.shown(&mut cursor, 2_499).await.unwrap().len(), 1);
    assert_eq!(world.folder.shown(&mut cursor, 1).await.unwrap()[0].name, "00001");
}

#[tokio::test]
async fn what_is_fresh_is_not_asked_for_again() {
    let store = Memory::default();
    store.put("d/a", b"1");
    let world = World::over("fresh", store, |config| config.fresh = Duration::from_secs(3600), None);
    let (parent, _) = world.parent("d/a").await.unwrap();
    let lists = |world: &World| world.store.0.lists.load(Ordering::SeqCst);
    world.folder.lookup(parent, "a").await.unwrap();
    let before = lists(&world);
    for name in ["a", "b", "c"] {
        let _ = world.folder.lookup(parent, name).await;
    }
    assert_eq!(lists(&world), before);
    // What this mount changes it sees at once.
    world.save("d/b", b"2").await.unwrap();
    assert_eq!(world.load("d/b").await.unwrap(), b"2");
    assert_eq!(world.names("d").await, ["a", "b"]);
}

#[tokio::test]
async fn bytes_are_those_of_the_object_wherever_one_reads() {
    let world = World::new("ranges");
    let content = bytes(2_000);
    world.store.put("f", &content);
    assert_eq!(world.load("f").await.unwrap(), content);
    let sequential = world.store.0.reads.load(Ordering::SeqCst);
    assert!(sequential < 20, "32 blocks were read in few requests, not {sequential}");
    let handle = world.open("f", READ).await.unwrap();
    for (from, count) in
        [(0, 1), (1_999, 1), (63, 2), (64, 64), (1_000, 900), (1_950, 100), (2_000, 5), (9_999, 1), (5, 0)]
    {
        let want = &content[from.min(2_000)..(from + count).min(2_000)];
        assert_eq!(world.folder.read(&handle, from as u64, count).await.unwrap(), want, "{count} from {from}");
    }
    let both = futures::future::join_all((0..40).map(|at| world.folder.read(&handle, at * 50, 50))).await;
    assert_eq!(both.into_iter().map(|piece| piece.unwrap().to_vec()).collect::<Vec<_>>().concat(), content);
    world.close(handle).await.unwrap();
}

#[tokio::test]
async fn a_read_that_fails_for_now_goes_on_and_one_that_fails_for_good_is_told() {
    let world = World::new("failing");
    let content = bytes(200);
    world.store.put("f", &content);
    world.store.refuse(Wrong::Away("nobody answers".into()));
    assert_eq!(world.load("f").await.unwrap(), content);
    world.store.put("g", &content);
    world.store.refuse(Wrong::Failed("damaged".into()));
    let handle = world.open("g", READ).await.unwrap();
    assert_eq!(world.folder.read(&handle, 199, 1).await, Err(Wrong::Failed("damaged".into())));
    assert_eq!(world.folder.read(&handle, 0, 200).await.unwrap(), content, "what failed is asked for again");
}

#[tokio::test]
async fn what_is_closed_is_stored_and_not_before() {
    let world = World::new("closed");
    let handle = world.create("new").await.unwrap();
    assert_eq!(world.names("").await, ["new"]);
    world.folder.write(&handle, 0, b"hello ".to_vec()).await.unwrap();
    world.folder.write(&handle, 6, b"world".to_vec()).await.unwrap();
    assert_eq!(world.stat("new").await.unwrap().size_bytes, 11);
    assert_eq!(world.all(&handle).await.unwrap(), b"hello world");
    assert!(world.store.keys().is_empty(), "nobody else sees any of it");
    world.close(handle).await.unwrap();
    assert_eq!(world.store.get("new").unwrap(), b"hello world");
    assert_eq!(world.told(), [Event::Stored { object: "hodei://bucket/new".into(), bytes: 11 }]);
    let attr = world.stat("new").await.unwrap();
    assert_eq!(attr, world.folder.getattr(attr.ino).unwrap());

    // Changed in the middle, at its end, cut.
    let handle = world.open("new", WRITE).await.unwrap();
    world.folder.write(&handle, 0, b"J".to_vec()).await.unwrap();
    world.folder.write(&handle, 11, b"!".to_vec()).await.unwrap();
    world.folder.sync(&handle).await.unwrap();
    assert_eq!(world.store.get("new").unwrap(), b"Jello world!", "fsync stores");
    world.folder.set(handle.ino(), Some(&handle), Some(5), None).await.unwrap();
    world.close(handle).await.unwrap();
    assert_eq!(world.store.get("new").unwrap(), b"Jello");
    assert_eq!(world.stat("new").await.unwrap().ino, attr.ino, "it is the same file all along");

    // By its name alone: longer, with zeros.
    world.folder.set(attr.ino, None, Some(7), None).await.unwrap();
    assert_eq!(world.store.get("new").unwrap(), b"Jello\0\0");
    world.save("new", b"over").await.unwrap();
    assert_eq!(world.load("new").await.unwrap(), b"over");
    assert!(world.folder.unstored().is_empty());
}

#[tokio::test]
async fn a_shell_that_opens_for_others_stores_once() {
    let world = World::new("shell");
    let (_, handle) = world.folder.create(ROOT, "log", Opening { process: Some(10), ..WRITE }).await.unwrap();
    // It duplicates the descriptor and closes the first.
    world.folder.flush(&handle, Some(10)).await.unwrap();
    assert_eq!(world.store.0.puts.load(Ordering::SeqCst), 0, "nothing was written yet");
    for (child, at) in [(11, 0), (12, 1)] {
        world.folder.write(&handle, at, b"x".to_vec()).await.unwrap();
        world.folder.flush(&handle, Some(child)).await.unwrap();
    }
    assert_eq!(world.store.0.puts.load(Ordering::SeqCst), 0, "a child's end is not the end");
    world.folder.flush(&handle, Some(10)).await.unwrap();
    assert_eq!(world.store.get("log").unwrap(), b"xx");
    world.folder.release(&handle).await;
    assert_eq!(world.store.0.puts.load(Ordering::SeqCst), 1);

    // touch: nothing is written, and the last close stores it.
    let handle = world.create("touched").await.unwrap();
    world.close(handle).await.unwrap();
    assert_eq!(world.store.get("touched").unwrap(), b"");
}

#[tokio::test]
async fn times_are_kept() {
    let world = World::new("times");
    let handle = world.create("f").await.unwrap();
    world.folder.write(&handle, 0, b"1".to_vec()).await.unwrap();
    world.folder.set(handle.ino(), Some(&handle), None, Some(1_234_567)).await.unwrap();
    world.close(handle).await.unwrap();
    assert_eq!(world.stat("f").await.unwrap().mtime_ms, 1_234_567);
    let (puts, ino) = (world.store.0.puts.load(Ordering::SeqCst), world.stat("f").await.unwrap().ino);
    world.folder.set(ino, None, None, Some(7_000)).await.unwrap();
    assert_eq!(
        (world.stat("f").await.unwrap().mtime_ms, world.store.0.puts.load(Ordering::SeqCst)),
        (7_000, puts),
        "no byte moved"
    );
    assert_eq!(world.stat("f").await.unwrap().ino, ino);
}

#[tokio::test]
async fn the_second_of_two_writers_is_refused_and_keeps_what_it_wrote() {
    let store = Memory::default();
    store.put("f", b"first");
    let (one, other) =
        (World::over("one", store.clone(), |_| {}, None), World::over("other", store.clone(), |_| {}, None));
    let (a, b) = (one.open("f", WRITE).await.unwrap(), other.open("f", WRITE).await.unwrap());
    one.folder.write(&a, 0, b"FIRST".to_vec()).await.unwrap();
    other.folder.write(&b, 5, b" second".to_vec()).await.unwrap();
    one.close(a).await.unwrap();
    assert_eq!(other.close(b).await, Err(Wrong::Changed));
    assert_eq!(store.get("f").unwrap(), b"FIRST");
    let told = other.told();
    let [Event::Kept { object, file, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((object.as_str(), std::fs::read(file).unwrap()), ("hodei://bucket/f", b"first second".to_vec()));
    assert_eq!(other.load("f").await.unwrap(), b"FIRST", "the name shows what there is");

    // The same where both make it, and where one removes it.
    let (a, b) = (one.create("new").await.unwrap(), other.create("new").await.unwrap());
    one.folder.write(&a, 0, b"a".to_vec()).await.unwrap();
    other.folder.write(&b, 0, b"b".to_vec()).await.unwrap();
    one.close(a).await.unwrap();
    assert_eq!(other.close(b).await, Err(Wrong::Changed));
    let handle = one.open("new", WRITE).await.unwrap();
    one.folder.write(&handle, 0, b"c".to_vec()).await.unwrap();
    store.remove("new");
    assert_eq!(one.close(handle).await, Err(Wrong::Changed));
    assert_eq!(one.stat("new").await, Err(Wrong::NotFound));
}

#[tokio::test]
async fn what_cannot_be_stored_is_told_and_kept() {
    let world = World::new("kept");
    for _ in 0..2 {
        world.store.refuse(Wrong::Away("nobody answers".into()));
    }
    world.save("late", b"1").await.unwrap();
    assert_eq!(world.store.get("late").unwrap(), b"1", "it was tried again");
    for _ in 0..4 {
        world.store.refuse(Wrong::Away("nobody answers".into()));
    }
    world.told();
    assert!(matches!(world.save("never", b"precious").await, Err(Wrong::Away(_))));
    let told = world.told();
    let Some(Event::Kept { file, why, .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!((std::fs::read(file).unwrap(), why.as_str()), (b"precious".to_vec(), "nobody answers"));
    assert_eq!(
        (world.stat("never").await, world.store.0.puts.load(Ordering::SeqCst)),
        (Err(Wrong::NotFound), 7),
        "not behind its back"
    );
}

#[tokio::test]
async fn a_full_disk_changes_nothing() {
    let store = Memory::default();
    store.put("f", b"as it was");
    let world = World::over("full", store, |_| {}, Some(100));
    let handle = world.open("f", Opening { truncates: true, ..WRITE }).await.unwrap();
    world.folder.write(&handle, 0, vec![1; 60]).await.unwrap();
    assert!(matches!(world.folder.write(&handle, 60, vec![1; 60]).await, Err(Wrong::Full(_))));
    assert!(matches!(world.close(handle).await, Err(Wrong::Full(_))));
    assert_eq!(
        (world.store.get("f").unwrap(), world.load("f").await.unwrap()),
        (b"as it was".to_vec(), b"as it was".to_vec())
    );
    let handle = world.create("new").await.unwrap();
    assert!(world.folder.write(&handle, 0, vec![1; 101]).await.is_err());
    assert!(world.close(handle).await.is_err());
    assert_eq!(world.stat("new").await, Err(Wrong::NotFound));
    world.save("small", &[1; 100]).await.unwrap();
    let full = world.told().iter().filter(|event| matches!(event, Event::Full { .. })).count();
    assert_eq!(full, 2, "each is told");
}

#[tokio::test]
async fn an_open_file_stays_what_it_was() {
    let world = World::new("open");
    let content = bytes(500);
    world.store.put("f", &content);
    let before = world.stat("f").await.unwrap();
    let handle = world.open("f", READ).await.unwrap();
    world.store.put("f", b"other");
    let after = world.stat("f").await.unwrap();
    assert_ne!(before.ino, after.ino, "another object is another file");
    assert_eq!(world.load("f").await.unwrap(), b"other");
    assert_eq!(world.all(&handle).await.unwrap(), content);
    assert!(world.folder.getattr(before.ino).unwrap().is_unnamed);
    world.close(handle).await.unwrap();

    let handle = world.open("f", READ).await.unwrap();
    world.folder.unlink(ROOT, "f").await.unwrap();
    assert_eq!((world.stat("f").await, world.store.get("f")), (Err(Wrong::NotFound), None));
    assert_eq!(world.all(&handle).await.unwrap(), b"other");
    world.close(handle).await.unwrap();

    // Removed while it is written: it goes with its last handle.
    let handle = world.create("temporary").await.unwrap();
    world.folder.write(&handle, 0, b"x".to_vec()).await.unwrap();
    world.folder.unlink(ROOT, "temporary").await.unwrap();
    assert_eq!(world.all(&handle).await.unwrap(), b"x");
    world.close(handle).await.unwrap();
    assert!(world.store.keys().is_empty() && world.told().is_empty());
}

#[tokio::test]
async fn an_object_that_changed_between_look_and_open_is_looked_up_again() {
    let world = World::new("stale");
    world.store.put("f", b"1");
    let ino = world.stat("f").await.unwrap().ino;
    world.store.put("f", b"22");
    assert_eq!(world.folder.open(ino, READ).await.err(), Some(Wrong::Changed), "the kernel then looks again");
    assert_eq!(world.load("f").await.unwrap(), b"22");
}

#[tokio::test]
async fn files_are_renamed() {
    let world = World::new("rename");
    world.store.put("d/a", b"1");
    let ino = world.stat("d/a").await.unwrap().ino;
    let d = world.stat("d").await.unwrap().ino;
    world.folder.rename((d, "a"), (ROOT, "b"), Rename::Replace).await.unwrap();
    assert_eq!((world.store.keys(), world.stat("b").await.unwrap().ino), (vec!["b".to_owned()], ino));
    assert!(world.stat("d").await.unwrap().is_folder, "a folder stays when its last file leaves");
    assert_eq!(world.names("").await, ["b", "d/"]);

    // As editors and rsync save: written beside, renamed over, with readers of the old one.
    let reader = world.open("b", READ).await.unwrap();
    let writer = world.create("b.tmp").await.unwrap();
    world.folder.write(&writer, 0, b"22".to_vec()).await.unwrap();
    world.folder.rename((ROOT, "b.tmp"), (ROOT, "b"), Rename::Replace).await.unwrap();
    assert_eq!(world.store.get("b").unwrap(), b"22");
    world.folder.write(&writer, 2, b"3".to_vec()).await.unwrap();
    world.close(writer).await.unwrap();
    assert_eq!((world.store.get("b").unwrap(), world.store.keys()), (b"223".to_vec(), vec!["b".to_owned()]));
    assert_eq!(world.all(&reader).await.unwrap(), b"1");
    world.close(reader).await.unwrap();

    world.store.put("c", b"c");
    assert_eq!(world.folder.rename((ROOT, "b"), (ROOT, "c"), Rename::Refuse).await, Err(Wrong::Exists));
    assert_eq!(world.folder.rename((ROOT, "absent"), (ROOT, "c"), Rename::Replace).await, Err(Wrong::NotFound));
    assert_eq!(world.folder.rename((ROOT, "b"), (ROOT, "d"), Rename::Replace).await, Err(Wrong::IsFolder));
}

#[tokio::test]
async fn folders_are_made_renamed_empty_and_removed() {
    let world = World::new("folders");
    let made = world.folder.mkdir(ROOT, "d").await.unwrap();
    assert_eq!((made.is_folder, world.store.keys()), (true, vec!["d/".to_owned()]));
    assert_eq!(world.folder.mkdir(ROOT, "d").await, Err(Wrong::Exists));
    world.save("d/a", b"1").await.unwrap();
    assert_eq!(world.folder.rmdir(ROOT, "d").await, Err(Wrong::NotEmpty));
    assert_eq!(world.folder.unlink(ROOT, "d").await, Err(Wrong::IsFolder));
    assert_eq!(world.folder.rename((ROOT, "d"), (ROOT, "e"), Rename::Replace).await, Err(Wrong::CrossFolder));
    world.folder.unlink(made.ino, "a").await.unwrap();
    world.folder.rename((ROOT, "d"), (ROOT, "e"), Rename::Replace).await.unwrap();
    assert_eq!((world.names("").await, world.store.keys()), (vec!["e/".to_owned()], vec!["e/".to_owned()]));
    world.folder.rmdir(ROOT, "e").await.unwrap();
    assert!(world.store.keys().is_empty() && world.names("").await.is_empty());

    // One that only keys made, emptied as `rm -r` does.
    world.store.put("x/y/z", b"1");
    let (x, y) = (world.stat("x").await.unwrap().ino, world.stat("x/y").await.unwrap().ino);
    world.folder.unlink(y, "z").await.unwrap();
    world.folder.rmdir(x, "y").await.unwrap();
    world.folder.rmdir(ROOT, "x").await.unwrap();
    assert_eq!(world.stat("x").await, Err(Wrong::NotFound));
}

#[tokio::test]
async fn nothing_is_changed_where_nothing_may_be() {
    let store = Memory::default();
    store.put("f", b"1");
    let world = World::over("readonly", store, |config| config.is_read_only = true, None);
    assert_eq!(world.load("f").await.unwrap(), b"1");
    let ino = world.stat("f").await.unwrap().ino;
    let refused = [
        world.open("f", WRITE).await.err(),
        world.create("new").await.err(),
        world.folder.unlink(ROOT, "f").await.err(),
        world.folder.mkdir(ROOT, "d").await.err(),
        world.folder.rename((ROOT, "f"), (ROOT, "g"), Rename::Replace).await.err(),
        world.folder.set(ino, None, Some(0), None).await.err(),
    ];
    assert!(refused.iter().all(|wrong| *wrong == Some(Wrong::ReadOnly)), "{refused:?}");
    assert_eq!(world.store.keys(), ["f"]);
}

#[tokio::test]
async fn a_mount_that_ends_keeps_what_is_open() {
    let world = World::new("ends");
    let handle = world.create("half").await.unwrap();
    world.folder.write(&handle, 0, b"half of".to_vec()).await.unwrap();
    let work = world.folder.begin_work();
    assert!(tokio::time::timeout(Duration::from_millis(1), world.folder.settle()).await.is_err());
    drop(work);
    world.folder.settle().await;
    assert_eq!(world.folder.unstored(), ["hodei://bucket/half"]);
    assert_eq!(world.folder.keep_all().await, 1);
    let told = world.told();
    let [Event::Kept { file, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((std::fs::read(file).unwrap(), world.store.keys()), (b"half of".to_vec(), vec![]));
    assert_eq!(world.folder.write(&handle, 7, b"it".to_vec()).await, Err(Wrong::Changed));
}
