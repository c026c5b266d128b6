//! Write components as text, for a toolchain that has no wasm target.
//!
//! A component here is a module `main` that imports from `host` what it needs of WASI, lowered, and the memory of
//! `libc`, and exports `handle` or `run`. Numbers in it are offsets: what the host returns is written at 2048.

/// What all of them may import.
const WASI: &str = r#"
(import "wasi:io/poll@0.2.0" (instance $poll
  (export "pollable" (type $pollable (sub resource)))
  (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
(alias export $poll "pollable" (type $pollable))
(import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
(alias export $io-error "error" (type $error))
(import "wasi:io/streams@0.2.0" (instance $streams
  (alias outer $C $error (type $outer-error))
  (export "error" (type $error (eq $outer-error)))
  (export "input-stream" (type $input-stream (sub resource)))
  (export "output-stream" (type $output-stream (sub resource)))
  (type $failed (variant (case "last-operation-failed" (own $error)) (case "closed")))
  (export "stream-error" (type $stream-error (eq $failed)))
  (export "[method]input-stream.blocking-read" (func
    (param "self" (borrow $input-stream)) (param "len" u64) (result (result (list u8) (error $stream-error)))))
  (export "[method]output-stream.blocking-write-and-flush" (func
    (param "self" (borrow $output-stream)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
(alias export $streams "input-stream" (type $input-stream))
(alias export $streams "output-stream" (type $output-stream))
"#;

/// `wasi:http/types`, as far as they need it.
const HTTP: &str = r#"
(import "wasi:http/types@0.2.0" (instance $types
  (alias outer $C $input-stream (type $outer-input))
  (export "input-stream" (type $input-stream (eq $outer-input)))
  (alias outer $C $output-stream (type $outer-output))
  (export "output-stream" (type $output-stream (eq $outer-output)))
  (alias outer $C $pollable (type $outer-pollable))
  (export "pollable" (type $pollable (eq $outer-pollable)))
  (export "fields" (type $fields (sub resource)))
  (export "incoming-request" (type $incoming-request (sub resource)))
  (export "incoming-body" (type $incoming-body (sub resource)))
  (export "incoming-response" (type $incoming-response (sub resource)))
  (export "future-incoming-response" (type $future (sub resource)))
  (export "outgoing-request" (type $outgoing-request (sub resource)))
  (export "request-options" (type $request-options (sub resource)))
  (export "outgoing-response" (type $outgoing-response (sub resource)))
  (export "outgoing-body" (type $outgoing-body (sub resource)))
  (export "response-outparam" (type $response-outparam (sub resource)))
  (type $dns (record (field "rcode" (option string)) (field "info-code" (option u16))))
  (export "DNS-error-payload" (type $dns-error (eq $dns)))
  (type $tls (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
  (export "TLS-alert-received-payload" (type $tls-alert (eq $tls)))
  (type $size (record (field "field-name" (option string)) (field "field-size" (option u32))))
  (export "field-size-payload" (type $field-size (eq $size)))
  (type $codes (variant
    (case "DNS-timeout") (case "DNS-error" $dns-error) (case "destination-not-found")
    (case "destination-unavailable") (case "destination-IP-prohibited") (case "destination-IP-unroutable")
    (case "connection-refused") (case "connection-terminated") (case "connection-timeout")
    (case "connection-read-timeout") (case "connection-write-timeout") (case "connection-limit-reached")
    (case "TLS-protocol-error") (case "TLS-certificate-error") (case "TLS-alert-received" $tls-alert)
    (case "HTTP-request-denied") (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
    (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid") (case "HTTP-request-URI-too-long")
    (case "HTTP-request-header-section-size" (option u32)) (case "HTTP-request-header-size" (option $field-size))
    (case "HTTP-request-trailer-section-size" (option u32)) (case "HTTP-request-trailer-size" $field-size)
    (case "HTTP-response-incomplete") (case "HTTP-response-header-section-size" (option u32))
    (case "HTTP-response-header-size" $field-size) (case "HTTP-response-body-size" (option u64))
    (case "HTTP-response-trailer-section-size" (option u32)) (case "HTTP-response-trailer-size" $field-size)
    (case "HTTP-response-transfer-coding" (option string)) (case "HTTP-response-content-coding" (option string))
    (case "HTTP-response-timeout") (case "HTTP-upgrade-failed") (case "HTTP-protocol-error")
    (case "loop-detected") (case "configuration-error") (case "internal-error" (option string))))
  (export "error-code" (type $error-code (eq $codes)))
  (export "[constructor]fields" (func (result (own $fields))))
  (export "[method]incoming-request.consume" (func
    (param "self" (borrow $incoming-request)) (result (result (own $incoming-body)))))
  (export "[method]incoming-body.stream" (func
    (param "self" (borrow $incoming-body)) (result (result (own $input-stream)))))
  (export "[constructor]outgoing-request" (func (param "headers" (own $fields)) (result (own $outgoing-request))))
  (export "[method]outgoing-request.set-authority" (func
    (param "self" (borrow $outgoing-request)) (param "authority" (option string)) (result (result))))
  (export "[method]outgoing-request.set-path-with-query" (func
    (param "self" (borrow $outgoing-request)) (param "path-with-query" (option string)) (result (result))))
  (export "[method]future-incoming-response.subscribe" (func (param "self" (borrow $future)) (result (own $pollable))))
  (export "[method]future-incoming-response.get" (func (param "self" (borrow $future))
    (result (option (result (result (own $incoming-response) (error $error-code)))))))
  (export "[constructor]outgoing-response" (func (param "headers" (own $fields)) (result (own $outgoing-response))))
  (export "[method]outgoing-response.body" (func
    (param "self" (borrow $outgoing-response)) (result (result (own $outgoing-body)))))
  (export "[method]outgoing-body.write" (func
    (param "self" (borrow $outgoing-body)) (result (result (own $output-stream)))))
  (export "[static]outgoing-body.finish" (func
    (param "this" (own $outgoing-body)) (param "trailers" (option (own $fields)))
    (result (result (error $error-code)))))
  (export "[static]response-outparam.set" (func (param "param" (own $response-outparam))
    (param "response" (result (own $outgoing-response) (error $error-code)))))))
(alias export $types "incoming-request" (type $incoming-request))
(alias export $types "response-outparam" (type $response-outparam))
(alias export $types "outgoing-request" (type $outgoing-request))
(alias export $types "request-options" (type $request-options))
(alias export $types "future-incoming-response" (type $future))
(alias export $types "error-code" (type $error-code))
"#;

const LIBC: &str = r#"
(core module $libc-module
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 65536))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (local.get $at)
      (i32.and (i32.add (local.get 3) (i32.const 7)) (i32.const -8))))
    ;; Each use starts over when little is left of the two pages: nobody here keeps what it was given.
    (if (i32.gt_u (global.get $next) (i32.const 120000)) (then (global.set $next (i32.const 65536))))
    (local.get $at)))
(core instance $libc (instantiate $libc-module))
(alias core export $libc "memory" (core memory $memory))
(alias core export $libc "realloc" (core func $realloc))
"#;

/// Lowered under the name that `main` imports it by.
const LOWERED: &[(&str, &str, &str)] = &[
    ("fields", "types", "[constructor]fields"),
    ("consume", "types", "[method]incoming-request.consume"),
    ("stream", "types", "[method]incoming-body.stream"),
    ("ask", "types", "[constructor]outgoing-request"),
    ("authority", "types", "[method]outgoing-request.set-authority"),
    ("path", "types", "[method]outgoing-request.set-path-with-query"),
    ("subscribe", "types", "[method]future-incoming-response.subscribe"),
    ("get", "types", "[method]future-incoming-response.get"),
    ("response", "types", "[constructor]outgoing-response"),
    ("body", "types", "[method]outgoing-response.body"),
    ("write", "types", "[method]outgoing-body.write"),
    ("finish", "types", "[static]outgoing-body.finish"),
    ("set", "types", "[static]response-outparam.set"),
    ("block", "poll", "[method]pollable.block"),
    ("read", "streams", "[method]input-stream.blocking-read"),
    ("put", "streams", "[method]output-stream.blocking-write-and-flush"),
];

/// What every `main` that answers requests begins with; `$answer` gives a whole answer of some bytes.
const ANSWER: &str = r#"
  (import "host" "fields" (func $fields (result i32)))
  (import "host" "response" (func $response (param i32) (result i32)))
  (import "host" "body" (func $body (param i32 i32)))
  (import "host" "write" (func $write (param i32 i32)))
  (import "host" "put" (func $put (param i32 i32 i32 i32)))
  (import "host" "finish" (func $finish (param i32 i32 i32 i32)))
  (import "host" "set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
  (import "host" "drop-output" (func $drop-output (param i32)))
  (import "libc" "memory" (memory 1))
  (global $sent (mut i32) (i32.const 0))
  (global $stream (mut i32) (i32.const 0))
  (func $begin (param $out i32)
    (local $response i32)
    (local.set $response (call $response (call $fields)))
    (call $body (local.get $response) (i32.const 2048))
    (global.set $sent (i32.load (i32.const 2052)))
    (call $set (local.get $out) (i32.const 0) (local.get $response) (i32.const 0) (i64.const 0)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (call $write (global.get $sent) (i32.const 2048))
    (global.set $stream (i32.load (i32.const 2052))))
  (func $say (param $at i32) (param $length i32)
    (call $put (global.get $stream) (local.get $at) (local.get $length) (i32.const 2048))
    (if (i32.load8_u (i32.const 2048)) (then unreachable)))
  (func $end
    (call $drop-output (global.get $stream))
    (call $finish (global.get $sent) (i32.const 0) (i32.const 0) (i32.const 2048)))
  (func $answer (param $out i32) (param $at i32) (param $length i32)
    (call $begin (local.get $out))
    (call $say (local.get $at) (local.get $length))
    (call $end))
"#;

/// A component that answers requests. `handle` is its body: `$request` and `$out` are the two handles.
pub(crate) fn http(handle: &str) -> Vec<u8> {
    http_with("", "", "", handle)
}

/// The same with imports of its own: of the component, what is passed on of them, and of `main`.
pub(crate) fn http_with(imports: &str, passed: &str, main: &str, handle: &str) -> Vec<u8> {
    let mut lowered = String::new();
    let mut exports = String::new();
    for (name, instance, function) in LOWERED {
        lowered += &format!(
            r#"(core func ${name} (canon lower (func ${instance} "{function}")
                 (memory $memory) (realloc $realloc)))"#
        );
        exports += &format!(r#"(export "{name}" (func ${name}))"#);
    }
    let text = format!(
        r#"(component $C {WASI} {HTTP} {LIBC} {imports} {lowered}
          (core func $drop-output (canon resource.drop $output-stream))
          (core module $main-module {main} {ANSWER}
            (data (i32.const 1024) "hello")
            (data (i32.const 1040) "refused")
            (data (i32.const 1056) "allowed")
            (data (i32.const 1072) "example.org/")
            (func (export "handle") (param $request i32) (param $out i32) (local $a i32) (local $b i32) {handle}))
          (core instance $main (instantiate $main-module
            (with "libc" (instance $libc))
            (with "host" (instance {exports} (export "drop-output" (func $drop-output)) {passed}))))
          (func $handle (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
            (canon lift (core func $main "handle")))
          (instance $handler (export "handle" (func $handle)))
          (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    );
    binary(&text)
}

pub(crate) fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Answers `hello`.
pub(crate) fn hello() -> Vec<u8> {
    http("(call $answer (local.get $out) (i32.const 1024) (i32.const 5))")
}

/// Never answers.
pub(crate) fn endless() -> Vec<u8> {
    http("(loop $again (br $again))")
}

/// Answers the bytes that it is sent.
pub(crate) fn echo() -> Vec<u8> {
    let main = r#"(import "host" "consume" (func $consume (param i32 i32)))
        (import "host" "stream" (func $input (param i32 i32)))
        (import "host" "read" (func $read (param i32 i64 i32)))"#;
    let handle = r#"
        (call $consume (local.get $request) (i32.const 2048))
        (call $input (i32.load (i32.const 2052)) (i32.const 2048))
        (local.set $a (i32.load (i32.const 2052)))
        (call $begin (local.get $out))
        (block $over (loop $again
          (call $read (local.get $a) (i64.const 4096) (i32.const 2048))
          (br_if $over (i32.load8_u (i32.const 2048)))
          (call $say (i32.load (i32.const 2052)) (i32.load (i32.const 2056)))
          (br $again)))
        (call $end)"#;
    http_with("", "", main, handle)
}

/// Asks for 640 MiB, and answers whether it got them.
pub(crate) fn greedy() -> Vec<u8> {
    http(&said_if("(i32.eq (memory.grow (i32.const 10240)) (i32.const -1))"))
}

/// Looks for folders that it may open.
pub(crate) fn reader() -> Vec<u8> {
    let imports = r#"
        (import "wasi:filesystem/types@0.2.0" (instance $files (export "descriptor" (type (sub resource)))))
        (alias export $files "descriptor" (type $descriptor))
        (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
          (alias outer $C $descriptor (type $outer))
          (export "descriptor" (type $descriptor (eq $outer)))
          (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))"#;
    let passed = r#"(export "folders" (func $folders))"#;
    let lower = r#"(core func $folders (canon lower (func $preopens "get-directories")
        (memory $memory) (realloc $realloc)))"#;
    let main = r#"(import "host" "folders" (func $folders (param i32)))"#;
    let handle = format!("(call $folders (i32.const 2048)) {}", said_if("(i32.eqz (i32.load (i32.const 2052)))"));
    http_with(&format!("{imports} {lower}"), passed, main, &handle)
}

/// Computes and takes memory by chance, and answers with its chance and the time it was given.
pub(crate) fn gambler() -> Vec<u8> {
    let imports = r#"
        (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
        (import "wasi:clocks/wall-clock@0.2.0" (instance $clock
          (type $time (record (field "seconds" u64) (field "nanoseconds" u32)))
          (export "datetime" (type $datetime (eq $time)))
          (export "now" (func (result $datetime)))))
        (core func $chance (canon lower (func $random "get-random-u64")))
        (core func $now (canon lower (func $clock "now") (memory $memory)))"#;
    let passed = r#"(export "chance" (func $chance)) (export "now" (func $now))"#;
    let main = r#"(import "host" "chance" (func $chance (result i64))) (import "host" "now" (func $now (param i32)))"#;
    let handle = r#"
        (i64.store (i32.const 3072) (call $chance))
        (call $now (i32.const 3080))
        (local.set $a (i32.load16_u (i32.const 3072)))
        (block $over (loop $again
          (br_if $over (i32.eqz (local.get $a)))
          (local.set $a (i32.sub (local.get $a) (i32.const 1)))
          (br $again)))
        (drop (memory.grow (i32.and (i32.load8_u (i32.const 3076)) (i32.const 15))))
        (call $answer (local.get $out) (i32.const 3072) (i32.const 20))"#;
    http_with(imports, passed, main, handle)
}

/// Makes a socket.
pub(crate) fn dialler() -> Vec<u8> {
    let imports = r#"
        (import "wasi:sockets/network@0.2.0" (instance $network
          (type $codes (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
            "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
            "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
            "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
            "permanent-resolver-failure"))
          (export "error-code" (type (eq $codes)))
          (type $families (enum "ipv4" "ipv6"))
          (export "ip-address-family" (type (eq $families)))))
        (alias export $network "error-code" (type $socket-error))
        (alias export $network "ip-address-family" (type $family))
        (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
        (alias export $tcp "tcp-socket" (type $tcp-socket))
        (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
          (alias outer $C $socket-error (type $outer-error))
          (export "error-code" (type $error-code (eq $outer-error)))
          (alias outer $C $family (type $outer-family))
          (export "ip-address-family" (type $family (eq $outer-family)))
          (alias outer $C $tcp-socket (type $outer-socket))
          (export "tcp-socket" (type $tcp-socket (eq $outer-socket)))
          (export "create-tcp-socket" (func
            (param "address-family" $family) (result (result (own $tcp-socket) (error $error-code)))))))"#;
    let passed = r#"(export "socket" (func $socket))"#;
    let lower = r#"(core func $socket (canon lower (func $create "create-tcp-socket") (memory $memory)))"#;
    let main = r#"(import "host" "socket" (func $socket (param i32 i32)))"#;
    let handle = format!("(call $socket (i32.const 0) (i32.const 2048)) {}", said_if("(i32.load8_u (i32.const 2048))"));
    http_with(&format!("{imports} {lower}"), passed, main, &handle)
}

/// Asks another host.
pub(crate) fn client() -> Vec<u8> {
    let imports = r#"
        (import "wasi:http/outgoing-handler@0.2.0" (instance $outgoing
          (alias outer $C $outgoing-request (type $outer-request))
          (export "outgoing-request" (type $outgoing-request (eq $outer-request)))
          (alias outer $C $request-options (type $outer-options))
          (export "request-options" (type $request-options (eq $outer-options)))
          (alias outer $C $future (type $outer-future))
          (export "future-incoming-response" (type $future (eq $outer-future)))
          (alias outer $C $error-code (type $outer-code))
          (export "error-code" (type $error-code (eq $outer-code)))
          (export "handle" (func (param "request" (own $outgoing-request))
            (param "options" (option (own $request-options))) (result (result (own $future) (error $error-code)))))))"#;
    let passed = r#"(export "send" (func $send))"#;
    let lower = r#"(core func $send (canon lower (func $outgoing "handle")
        (memory $memory) (realloc $realloc)))"#;
    let main = r#"
        (import "host" "ask" (func $ask (param i32) (result i32)))
        (import "host" "authority" (func $authority (param i32 i32 i32 i32) (result i32)))
        (import "host" "path" (func $path (param i32 i32 i32 i32) (result i32)))
        (import "host" "send" (func $send (param i32 i32 i32 i32)))
        (import "host" "subscribe" (func $subscribe (param i32) (result i32)))
        (import "host" "block" (func $block (param i32)))
        (import "host" "get" (func $get (param i32 i32)))"#;
    // `get` gives an option of a result of a result: their marks stand at 0, 8 and 16, the error's own at 24, where 15
    // is HTTP-request-denied.
    let handle = format!(
        r#"(local.set $a (call $ask (call $fields)))
        (if (call $authority (local.get $a) (i32.const 1) (i32.const 1072) (i32.const 11)) (then unreachable))
        (if (call $path (local.get $a) (i32.const 1) (i32.const 1083) (i32.const 1)) (then unreachable))
        (call $send (local.get $a) (i32.const 0) (i32.const 0) (i32.const 2048))
        (if (i32.load8_u (i32.const 2048)) (then unreachable))
        (local.set $b (i32.load (i32.const 2056)))
        (call $block (call $subscribe (local.get $b)))
        (call $get (local.get $b) (i32.const 2048))
        {}"#,
        said_if("(i32.and (i32.load8_u (i32.const 2064)) (i32.eq (i32.load8_u (i32.const 2072)) (i32.const 15)))")
    );
    http_with(&format!("{imports} {lower}"), passed, main, &handle)
}

/// A handler that answers `refused` if so, `allowed` otherwise.
fn said_if(refused: &str) -> String {
    format!(
        "(if {refused}
           (then (call $answer (local.get $out) (i32.const 1040) (i32.const 7)))
           (else (call $answer (local.get $out) (i32.const 1056) (i32.const 7))))"
    )
}

/// Prints `hello` as a command.
pub(crate) fn command() -> Vec<u8> {
    binary(&format!(
        r#"(component $C {WASI}
          (import "wasi:cli/stdout@0.2.0" (instance $stdout
            (alias outer $C $output-stream (type $outer))
            (export "output-stream" (type $output-stream (eq $outer)))
            (export "get-stdout" (func (result (own $output-stream))))))
          {LIBC}
          (core func $stdout (canon lower (func $stdout "get-stdout")))
          (core func $put (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
            (memory $memory) (realloc $realloc)))
          (core module $main-module
            (import "host" "stdout" (func $stdout (result i32)))
            (import "host" "put" (func $put (param i32 i32 i32 i32)))
            (import "libc" "memory" (memory 1))
            (data (i32.const 1024) "hello")
            (func (export "run") (result i32)
              (call $put (call $stdout) (i32.const 1024) (i32.const 5) (i32.const 2048))
              (i32.load8_u (i32.const 2048))))
          (core instance $main (instantiate $main-module
            (with "libc" (instance $libc))
            (with "host" (instance (export "stdout" (func $stdout)) (export "put" (func $put))))))
          (func $run (result (result)) (canon lift (core func $main "run")))
          (instance $entry (export "run" (func $run)))
          (export "wasi:cli/run@0.2.0" (instance $entry)))"#
    ))
}

/// Small to send, and long to compile: one function in which each value follows from all before it.
pub(crate) fn bomb(steps: usize) -> Vec<u8> {
    let step = "local.get 0 local.get 1 i64.mul local.tee 0 local.get 1 i64.rotl local.set 1 ";
    binary(&format!(
        "(component (core module $m (func (param i64 i64) (result i64) {} local.get 0)) (core instance (instantiate $m)))",
        step.repeat(steps)
    ))
}
