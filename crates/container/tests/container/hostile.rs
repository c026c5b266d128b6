//! Let containers run amok, and see that it ends in them: their neighbour answers, and what they leave is taken away.

use super::*;
use std::{path::PathBuf, time::Instant};

/// Requests of a row that is timed.
const ASKED: usize = 200;

/// How long each of a row of requests took, the quickest first.
async fn timed(container: &Container) -> Vec<Duration> {
    let mut took = Vec::new();
    for _ in 0..ASKED {
        let begun = Instant::now();
        let answer = get(container).await;
        assert!(answer.ends_with("a page of the image\n"), "{answer}");
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    took
}

/// A file of the kernel's own about a container's group, of either version; none where that has it elsewhere.
fn counter(id: &str, old: &str, new: &str) -> Option<u64> {
    let (controller, file) = old.split_once('/').unwrap();
    let old = format!("/sys/fs/cgroup/{controller}/hodei/{id}/{file}");
    let text =
        std::fs::read_to_string(old).or_else(|_| std::fs::read_to_string(format!("/sys/fs/cgroup/hodei/{id}/{new}")));
    text.ok()?.split_whitespace().find_map(|word| word.parse().ok())
}

#[tokio::test]
async fn a_neighbour_answers_while_others_run_amok_within_their_limits() {
    let house = House::new();
    let neighbour = house.started(house.spec("calm", "exec httpd -f -p 80 -h /www")).await;
    get(&neighbour).await;
    let quiet = timed(&neighbour).await;
    let amok = [
        ("forks", "while true; do sleep 1 & true & done"),
        ("memory", "while true; do dd if=/dev/zero of=/tmp/big bs=1M count=100 2>/dev/null; done"),
        ("disk", "while true; do dd if=/dev/zero of=/data/big bs=1M count=200 2>/dev/null; done"),
        ("talk", "yes all work and no play"),
        ("cpu", "while true; do true; done"),
    ];
    let mut hostile = Vec::new();
    for (name, line) in amok {
        let mut asked = house.spec(name, line);
        (asked.cpu_milli, asked.pids) = (200, 32);
        hostile.push(house.started(asked).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let loud = timed(&neighbour).await;
    let at = |row: &[Duration], part: usize| row[(row.len() - 1) * part / 100];
    for (what, row) in [("alone", &quiet), ("beside five that run amok", &loud)] {
        println!("a neighbour's answer, {what}: {:?} in the middle, {:?} in 95 of 100", at(row, 50), at(row, 95));
    }
    for container in &hostile {
        let used = container.usage().unwrap();
        assert!(used.pids <= 32 && used.disk_bytes <= 64 << 20, "{}: {used:?}", container.id());
        assert!(used.memory_bytes <= 64 << 20, "{}: {used:?}", container.id());
        let logs: u64 = container.logs().iter().filter_map(|path| Some(std::fs::metadata(path).ok()?.len())).sum();
        assert!(logs <= 8 << 20, "{}: {logs} bytes of logs", container.id());
    }
    for container in hostile {
        container.delete().await.unwrap();
    }
    get(&neighbour).await;
    neighbour.delete().await.unwrap();
}

#[tokio::test]
async fn files_without_number_fill_their_own_disk_alone_and_go_with_it() {
    let house = House::new();
    let container = house.started(house.spec("files", "sleep 60")).await;
    // As many as there is room for, in folders inside each other as deep as a path may be named.
    let line = "cd /data; i=0; while mkdir d 2>/dev/null && cd d; do i=$((i+1)); [ $i -lt 900 ] || break; done; \
                n=0; while touch f$n 2>/dev/null; do n=$((n+1)); [ $n -lt 200000 ] || break; done; echo $i $n; touch /data/x";
    let (code, said) = shell(&container, line).await;
    let counts: Vec<u32> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(code != 0 && counts[0] == 900 && (1_000..200_000).contains(&counts[1]), "{code} {said}");
    // Another is made and served beside it.
    let other = house.started(house.spec("beside", "exec httpd -f -p 80 -h /www")).await;
    get(&other).await;
    other.delete().await.unwrap();
    let id = container.id().to_owned();
    container.delete().await.unwrap();
    assert!(!house.folder.path().join("engine/containers").join(id).exists());
}

#[tokio::test]
async fn nothing_that_its_parents_have_open_is_open_inside() {
    let house = House::new();
    let container = house.started(house.spec("open", "ls /proc/self/fd; sleep 60")).await;
    // What lists them has one more open, which is the list.
    let (_, further) = shell(&container, "ls /proc/self/fd").await;
    assert_eq!(further, "0\n1\n2\n3\n");
    assert_eq!(said(&container), further);
    // Nor does a process lead out: of those it sees each has this root, and its own are all it may signal.
    let (_, seen) = shell(&container, "ls /proc | grep -c '^[0-9]'; ls /proc/1/root/ | head -1; kill -0 2").await;
    assert!(seen.starts_with(|digit: char| digit.is_ascii_digit()) && seen.contains("bin\n"), "{seen}");
    let outside = std::process::id();
    let (code, said) = shell(&container, &format!("kill -0 {outside} || ls /proc/{outside}")).await;
    assert!(code != 0, "a process of this machine was reached: {said}");
    container.delete().await.unwrap();
}

#[tokio::test]
async fn what_is_told_of_use_is_what_the_kernel_counts() {
    let house = House::new();
    let line = "dd if=/dev/zero of=/tmp/held bs=1M count=24 2>/dev/null; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; \
                exec sleep 60";
    let container = house.started(house.spec("meter", line)).await;
    let cpu = || counter(container.id(), "cpuacct/cpuacct.usage", "cpu.stat").expect("the kernel's own counter");
    let memory = || counter(container.id(), "memory/memory.usage_in_bytes", "memory.current").expect("its memory");
    let is_old = PathBuf::from("/sys/fs/cgroup/cpuacct").exists();
    for _ in 0..20 {
        let (cpu_from, memory_from) = (cpu(), memory());
        let told = container.usage().unwrap();
        let (cpu_to, memory_to) = (cpu(), memory());
        // Of the newer version's counter in microseconds.
        let told_cpu = if is_old { told.cpu_ns } else { told.cpu_ns / 1000 };
        assert!((cpu_from..=cpu_to).contains(&told_cpu), "{cpu_from} {told_cpu} {cpu_to}");
        let (least, most) = (memory_from.min(memory_to), memory_from.max(memory_to));
        // Pages come and go while it is read: within a thousandth, or a few pages.
        let slack = (most / 1000).max(64 << 12);
        assert!(told.memory_bytes + slack >= least && told.memory_bytes <= most + slack, "{least} {told:?} {most}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    container.delete().await.unwrap();
}

#[tokio::test]
async fn an_image_that_would_keep_its_engine_waiting_is_refused() {
    let house = House::new();
    for name in ["etc/passwd", "etc/group"] {
        let pipe = Tar::new().folder("etc").entry(EntryType::Fifo, name, "", 0o666, b"").bytes();
        let asked = spec(house.folder.path(), &id("pipe"), &[busybox(), pipe], "true");
        let said = refused(&house, asked).await;
        assert!(said.contains(name), "{said}");
    }
    // Another starts.
    let (exit, _) = house.run(house.spec("after", "true")).await;
    assert_eq!(exit.code, Some(0));
}
