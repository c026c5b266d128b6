//! Send many multipart uploads at once, and one object larger than memory should ever have to be, through the S3 door.
//!
//! Run: `cargo build --release && cargo run --release -p hodei-benches --bin bench-large [GIB] [UPLOADS]`
//!
//! An object of 10 GiB and 64 uploads unless told. Every byte is compared. What it needs on the disk is printed before,
//! and refused where there is less. What the door has in memory is told as the large object grows: it must not grow
//! with it.

mod cloud;
mod crowd;
mod door;
mod machine;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use cloud::{Cloud, cpu_secs};
use crowd::{content, each};
use door::Door;
use machine::{memory, room};
use rusty_s3::{
    S3Action as _,
    actions::{CompleteMultipartUpload, CompleteMultipartUploadResponse, CreateMultipartUpload},
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const BUCKET: &str = "large";
const SIGNED: Duration = Duration::from_secs(3600);
const MIB: u64 = 1 << 20;
/// Parts of each of the uploads at once, and their size.
const PARTS: u16 = 3;
const PART_BYTES: u64 = 8 * MIB;
/// Of the large object, and how many are on their way.
const LARGE_PART_BYTES: u64 = 64 * MIB;
const AT_ONCE: usize = 4;
/// Parts of the large object between looks at memory: a GiB.
const LOOK: u64 = 16;

/// A door, and the process behind it.
#[derive(Clone)]
struct Client {
    door: Door,
    process: u32,
}

#[expect(clippy::disallowed_methods, reason = "a bench is a program of its own")]
fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut number = |other: u64| words.next().map_or(Ok(other), |word| word.parse()).context("a number was expected");
    let (gib, uploads) = (number(10)?, number(64)?);
    ensure!(gib > 0 && uploads > 0, "expected at least one GiB and one upload");
    let bytes = (gib << 30) + uploads * u64::from(PARTS) * PART_BYTES;
    // 3 of 6 doubles what is put; a tenth more for pages, hashes and what is written anew.
    let what = format!("{uploads} uploads of {} MiB, an object of {gib} GiB", u64::from(PARTS) * PART_BYTES / MIB);
    room(&std::env::temp_dir(), &what, bytes / 10 * 22)?;
    let cloud = Cloud::start()?;
    // Its plan takes twice the room it is asked for, and a demo's providers have 8 GiB each.
    let door = Door::open(&cloud, BUCKET, ((bytes / 10 * 8) >> 30) + 1)?;
    let client = Client { door, process: cloud.id() };
    let processes = cloud.processes()?;

    many(&client, &processes, uploads).await?;
    one(&client, &processes, gib).await
}

/// All uploads are open at the same time, each sending its parts one after another.
async fn many(client: &Client, processes: &[u32], uploads: u64) -> Result<()> {
    let (used, asking) = (cpu_secs(processes), client.clone());
    let mib = (uploads * u64::from(PARTS) * PART_BYTES / MIB) as f64;
    let start = Instant::now();
    let sent = each(uploads, uploads as usize, move |at| {
        let client = asking.clone();
        async move {
            let key = format!("upload-{at}");
            let upload = client.begin(&key).await?;
            let mut etags = Vec::new();
            for number in 1..=PARTS {
                let body = content(PART_BYTES as usize, at * u64::from(PARTS) + u64::from(number));
                etags.push(client.part(&key, &upload, number, body).await?);
            }
            client.complete(&key, &upload, &etags).await
        }
    });
    sent.await?;
    let put = start.elapsed().as_secs_f64();
    let (asking, start) = (client.clone(), Instant::now());
    let got = each(uploads, uploads as usize, move |at| {
        let client = asking.clone();
        async move {
            let body = |number: u64| content(PART_BYTES as usize, at * u64::from(PARTS) + number + 1);
            client.compare(&format!("upload-{at}"), PARTS.into(), body, |_| Ok(())).await
        }
    });
    got.await?;
    let get = start.elapsed().as_secs_f64();
    let (_, most) = memory(&[client.process])?;
    println!("{uploads} multipart uploads at once, {PARTS} parts of {} MiB each", PART_BYTES / MIB);
    println!("  put {put:.1} s, {:.0} MiB a second; got {get:.1} s, {:.0} MiB a second", mib / put, mib / get);
    println!("  CPU of the cloud {:.1} s; gateway {most:.0} MiB at most", cpu_secs(processes) - used);
    Ok(())
}

/// Puts an object part by part, and gets it as one stream.
async fn one(client: &Client, processes: &[u32], gib: u64) -> Result<()> {
    const KEY: &str = "one";
    let parts = (gib << 30) / LARGE_PART_BYTES;
    let body = |number: u64| content(LARGE_PART_BYTES as usize, number | 1 << 40);
    println!("an object of {gib} GiB, parts of {} MiB, {AT_ONCE} at once", LARGE_PART_BYTES / MIB);
    let (used, start) = (cpu_secs(processes), Instant::now());
    let upload = client.begin(KEY).await?;
    let etags = Arc::new(Mutex::new(vec![String::new(); parts as usize]));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (asking, told, looks, id) = (client.clone(), etags.clone(), seen.clone(), upload.clone());
    let sent = each(parts, AT_ONCE, move |at| {
        let (client, told, looks, id) = (asking.clone(), told.clone(), looks.clone(), id.clone());
        async move {
            let etag = client.part(KEY, &id, at as u16 + 1, body(at)).await?;
            told.lock().expect("no panic under this lock")[at as usize] = etag;
            if at % LOOK == LOOK - 1 {
                looks.lock().expect("no panic under this lock").push(memory(&[client.process])?.0);
            }
            Ok(())
        }
    });
    sent.await?;
    let etags = etags.lock().expect("no panic under this lock").clone();
    client.complete(KEY, &upload, &etags).await?;
    let tell = |what: &str, secs: f64, looks: &[f64]| {
        let looks = looks.iter().map(|mib| format!("{mib:.0}")).collect::<Vec<_>>();
        println!("  {what} {secs:.1} s, {:.0} MiB a second", (gib << 10) as f64 / secs);
        println!("  gateway after each GiB, in MiB: {}", looks.join(" "));
    };
    tell("put", start.elapsed().as_secs_f64(), &seen.lock().expect("no panic under this lock"));

    let (mut looks, start) = (Vec::new(), Instant::now());
    let look = |number: u64| {
        if number % LOOK == LOOK - 1 {
            looks.push(memory(&[client.process])?.0);
        }
        Ok(())
    };
    client.compare(KEY, parts, body, look).await?;
    tell("got", start.elapsed().as_secs_f64(), &looks);
    let (_, most) = memory(&[client.process])?;
    println!("  CPU of the cloud {:.1} s; gateway {most:.0} MiB at most", cpu_secs(processes) - used);
    Ok(())
}

impl Client {
    async fn begin(&self, key: &str) -> Result<String> {
        let url = self.door.bucket.create_multipart_upload(Some(&self.door.keys), key).sign(SIGNED);
        let text = said("begin", self.door.http.post(url).send().await?).await?;
        let answer = CreateMultipartUpload::parse_response(&text).map_err(|error| anyhow::anyhow!("begin: {error}"))?;
        Ok(answer.upload_id().to_owned())
    }

    /// Gives the part's etag.
    async fn part(&self, key: &str, upload: &str, number: u16, body: Bytes) -> Result<String> {
        let url = self.door.bucket.upload_part(Some(&self.door.keys), key, number, upload).sign(SIGNED);
        let answer = self.door.http.put(url).body(body).send().await?;
        let etag = answer.headers().get("etag").and_then(|etag| Some(etag.to_str().ok()?.to_owned()));
        said("part", answer).await?;
        etag.context("a part has no etag")
    }

    async fn complete(&self, key: &str, upload: &str, etags: &[String]) -> Result<()> {
        let ask: CompleteMultipartUpload<'_, _> = self.door.bucket.complete_multipart_upload(
            Some(&self.door.keys),
            key,
            upload,
            etags.iter().map(String::as_str),
        );
        let request = self.door.http.post(ask.sign(SIGNED)).body(ask.body());
        let text = said("complete", request.send().await?).await?;
        CompleteMultipartUploadResponse::parse(&text).map_err(|error| anyhow::anyhow!("complete: {error}: {text}"))?;
        Ok(())
    }

    /// Gets an object whole and compares it part by part; `look` is called after each.
    async fn compare(
        &self,
        key: &str,
        parts: u64,
        body: impl Fn(u64) -> Bytes,
        mut look: impl FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let url = self.door.bucket.get_object(Some(&self.door.keys), key).sign(SIGNED);
        let mut answer = self.door.http.get(url).send().await?;
        ensure!(answer.status().is_success(), "get {key}: {}", answer.status());
        let mut piece = Bytes::new();
        for number in 0..parts {
            let mut rest = body(number);
            while !rest.is_empty() {
                if piece.is_empty() {
                    piece = answer.chunk().await?.with_context(|| format!("get {key}: it ends in part {number}"))?;
                }
                let len = piece.len().min(rest.len());
                ensure!(piece.split_to(len) == rest.split_to(len), "get {key}: other bytes in part {number}");
            }
            look(number)?;
        }
        ensure!(piece.is_empty() && answer.chunk().await?.is_none(), "get {key}: more bytes than were put");
        Ok(())
    }
}

/// The words of an answer; an error with them if it is one.
async fn said(what: &str, answer: reqwest::Response) -> Result<String> {
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status.is_success(), "{what}: {status} {text}");
    Ok(text)
}
