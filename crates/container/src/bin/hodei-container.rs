//! Keep a container and nothing else, as a binary that runs containers does when it is entered so.

#[cfg(target_os = "linux")]
fn main() {
    std::process::exit(hodei_container::keeper::run());
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("containers are kept on Linux");
    std::process::exit(1);
}
