//! Start a demo cloud, speak to its RPC door, and read what its processes cost.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

/// A running demo; killed when dropped.
pub(crate) struct Cloud {
    demo: Child,
    /// What `hodei demo --keep --json` printed.
    pub(crate) doors: Value,
}

impl Cloud {
    /// Starts the binary beside this one and waits for its one line.
    pub(crate) fn start() -> Result<Self> {
        let binary = std::env::current_exe()?.with_file_name("hodei");
        ensure!(binary.exists(), "build the binary first: cargo build --release");
        let mut demo = Command::new(binary)
            .args(["demo", "--keep", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(demo.stdout.take().context("demo has no output")?).read_line(&mut line)?;
        let doors =
            serde_json::from_str(&line).with_context(|| format!("demo printed {line:?}"))?;
        Ok(Self { demo, doors })
    }

    pub(crate) fn rpc(&self) -> Result<Rpc> {
        Rpc::connect(self.doors["rpc"].as_str().context("the demo has no rpc door")?)
    }

    /// Process ids of the demo's children whose command line contains `word`.
    pub(crate) fn children(&self, word: &str) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            let command =
                std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if parent == Some(&self.demo.id().to_string()) && command.contains(word) {
                found.push(pid);
            }
        }
        Ok(found)
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.demo.id().to_string()]).status();
        let _ = self.demo.wait();
    }
}

/// CPU seconds that processes have used so far, user and system. Ticks are 1/100 s on Linux.
pub(crate) fn cpu_secs(pids: &[u32]) -> f64 {
    let ticks: u64 = pids
        .iter()
        .map(|pid| {
            let path = format!("/proc/{pid}/stat");
            let stat = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
            let fields: Vec<&str> =
                stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
            [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum::<u64>()
        })
        .sum();
    ticks as f64 / 100.0
}

/// One keep-alive connection to a JSON-RPC door.
pub(crate) struct Rpc {
    host: String,
    stream: BufReader<TcpStream>,
    id: u64,
}

impl Rpc {
    pub(crate) fn connect(url: &str) -> Result<Self> {
        let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&host).with_context(|| format!("connect to {host}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { host, stream: BufReader::new(stream), id: 0 })
    }

    /// Another connection to the same door.
    pub(crate) fn again(&self) -> Result<Self> {
        Self::connect(&self.host)
    }

    pub(crate) fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.id += 1;
        let answer = self
            .post(&json!({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params}))?;
        match answer.get("error") {
            Some(error) => bail!("{method}: {error}"),
            None => Ok(answer["result"].clone()),
        }
    }

    /// Sends many calls as one batch; returns the errors among the answers.
    pub(crate) fn batch(
        &mut self,
        method: &str,
        params: impl Iterator<Item = Value>,
    ) -> Result<Vec<String>> {
        let calls: Vec<Value> = params
            .enumerate()
            .map(|(id, params)| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .collect();
        let answer = self.post(&Value::Array(calls))?;
        let answers = answer.as_array().ok_or_else(|| anyhow!("batch answered with {answer}"))?;
        Ok(answers.iter().filter_map(|one| one.get("error").map(Value::to_string)).collect())
    }

    pub(crate) fn number(&mut self, method: &str, params: Value) -> Result<u64> {
        let answer = self.call(method, params)?;
        let text = answer.as_str().with_context(|| format!("{method} answered {answer}"))?;
        Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)?)
    }

    fn post(&mut self, body: &Value) -> Result<Value> {
        let body = body.to_string();
        write!(
            self.stream.get_mut(),
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        )?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            ensure!(self.stream.read_line(&mut line)? > 0, "the door closed the connection");
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        serde_json::from_slice(&answer)
            .with_context(|| format!("answer {:?}", String::from_utf8_lossy(&answer)))
    }
}
