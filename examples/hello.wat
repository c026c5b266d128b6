;; Answer every request with one line of text: a component of wasi:http, written as text, for who has no compiler at hand.
;;
;;   hodei deploy examples/hello.wat --replicas 3
;;   hodei app serve                        and then    curl http://hello.localhost:8080
;;
;; Numbers in it are offsets of memory: what the host returns is written at 2048, the line stands at 1024. Whoever writes
;; one in Rust, Go or JavaScript gets all of this from its compiler (target wasm32-wasip2).
(component $C
;; What it imports: streams to write to, and requests to answer. Types that others name must be named whole.
(import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
(alias export $io-error "error" (type $error))
(import "wasi:io/streams@0.2.0" (instance $streams
  (alias outer $C $error (type $outer-error))
  (export "error" (type $error (eq $outer-error)))
  (export "output-stream" (type $output-stream (sub resource)))
  (type $failed (variant (case "last-operation-failed" (own $error)) (case "closed")))
  (export "stream-error" (type $stream-error (eq $failed)))
  (export "[method]output-stream.blocking-write-and-flush" (func
    (param "self" (borrow $output-stream)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
(alias export $streams "output-stream" (type $output-stream))
(import "wasi:http/types@0.2.0" (instance $types
  (alias outer $C $output-stream (type $outer-output))
  (export "output-stream" (type $output-stream (eq $outer-output)))
  (export "fields" (type $fields (sub resource)))
  (export "incoming-request" (type $incoming-request (sub resource)))
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

;; Memory, and room in it for what the host returns.
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

;; The host's functions as the core module below calls them.
(core func $fields (canon lower (func $types "[constructor]fields")
  (memory $memory) (realloc $realloc)))
(core func $response (canon lower (func $types "[constructor]outgoing-response")
  (memory $memory) (realloc $realloc)))
(core func $body (canon lower (func $types "[method]outgoing-response.body")
  (memory $memory) (realloc $realloc)))
(core func $write (canon lower (func $types "[method]outgoing-body.write")
  (memory $memory) (realloc $realloc)))
(core func $finish (canon lower (func $types "[static]outgoing-body.finish")
  (memory $memory) (realloc $realloc)))
(core func $set (canon lower (func $types "[static]response-outparam.set")
  (memory $memory) (realloc $realloc)))
(core func $put (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
  (memory $memory) (realloc $realloc)))
(core func $drop-output (canon resource.drop $output-stream))

(core module $main-module
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
  (data (i32.const 1024) "Hello from somebody else's machine.\0a")
  (func (export "handle") (param $request i32) (param $out i32)
    (call $answer (local.get $out) (i32.const 1024) (i32.const 36))))

(core instance $main (instantiate $main-module
  (with "libc" (instance $libc))
  (with "host" (instance
      (export "fields" (func $fields))
      (export "response" (func $response))
      (export "body" (func $body))
      (export "write" (func $write))
      (export "finish" (func $finish))
      (export "set" (func $set))
      (export "put" (func $put))
      (export "drop-output" (func $drop-output))))))

;; What it exports: the one function that a host calls for each request.
(func $handle (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
  (canon lift (core func $main "handle")))
(instance $handler (export "handle" (func $handle)))
(export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
