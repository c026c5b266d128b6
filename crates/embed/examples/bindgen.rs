//! Write the bindings of another language from the built library.
//!
//! `cargo run --release --example bindgen -- generate --library libhodei_embed.so --language python --out-dir OUT`;
//! other languages: kotlin, swift.

fn main() {
    uniffi::uniffi_bindgen_main();
}
