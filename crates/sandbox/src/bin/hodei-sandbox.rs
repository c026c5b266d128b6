//! Be a runner and nothing else, as a binary that holds a sandbox is when it is entered so.

fn main() {
    std::process::exit(hodei_sandbox::runner::run());
}
