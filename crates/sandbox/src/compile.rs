//! Compile a stranger's wasm in a process that may cost only so much.

use crate::{
    Code, Error, Program,
    limit::{CHUNK_BYTES_MAX, CompileLimits},
    message::{Ask, Tell},
    process::Process,
};
use bytes::Bytes;

/// Compiles one component. What it costs beyond the limits ends with the compiling process; the caller only hears it.
pub async fn compile(program: &Program, wasm: &[u8], limits: &CompileLimits) -> Result<Code, Error> {
    if wasm.len() as u64 > limits.wasm_bytes_max {
        return Err(Error::WasmTooLong { found: wasm.len() as u64, limit: limits.wasm_bytes_max });
    }
    let mut process = program.start().map_err(Error::Start)?;
    match tokio::time::timeout(limits.deadline, converse(&mut process, wasm, limits)).await {
        Ok(Ok(code)) => Ok(code),
        Ok(Err(error)) => Err(error.with_end(&mut process).await),
        Err(_) => {
            process.kill().await;
            Err(Error::CompileDeadline(limits.deadline))
        }
    }
}

async fn converse(process: &mut Process, wasm: &[u8], limits: &CompileLimits) -> Result<Code, Error> {
    let wire = &mut process.wire;
    wire.say(&Ask::Compile { limits: limits.clone(), wasm_bytes: wasm.len() as u64 }).await?;
    let confinement = match wire.incoming.receive().await? {
        Some(Tell::Confined(confinement)) => *confinement,
        Some(other) => return Err(Error::unexpected("what confines it", &other)),
        None => return Err(Error::Closed),
    };
    for chunk in wasm.chunks(CHUNK_BYTES_MAX) {
        wire.say(&Ask::Bytes(chunk.to_vec())).await?;
    }
    let mut code = Vec::new();
    loop {
        match wire.incoming.receive().await? {
            Some(Tell::Bytes(bytes)) if !bytes.is_empty() => {
                let found = (code.len() + bytes.len()) as u64;
                if found > limits.code_bytes_max {
                    return Err(Error::CodeTooLong { limit: limits.code_bytes_max });
                }
                code.extend_from_slice(&bytes);
            }
            Some(Tell::Compiled { took }) => {
                let digest = *blake3::hash(wasm).as_bytes();
                return Ok(Code { digest, bytes: Bytes::from(code), compiled: Some((took, confinement)) });
            }
            Some(Tell::Refused(words)) => return Err(Error::NotAComponent(words)),
            Some(other) => return Err(Error::unexpected("compiled code", &other)),
            None => return Err(Error::Closed),
        }
    }
}
