//! Read what lies beside a compose file: one file, or all files of a folder.

use hodei_sdk::stack::Found;
use hodei_types::app::given::{FILES_BYTES_MAX, FILES_MAX};
use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

const DEPTH_MAX: usize = 16;
/// Files and folders that are looked at: links may lead to the same ones again and again.
const LOOKS_MAX: usize = 1024;

/// What is at `path` of the project, or why it cannot be given. Nothing that a link leads to outside of the project.
pub(super) fn beside(project: &Path, path: &str) -> Result<Vec<Found>, String> {
    let project = project.canonicalize().map_err(|error| error.to_string())?;
    let root = project.join(path);
    if !root.exists() {
        return Err("it is not there".into());
    }
    let mut found = Vec::new();
    let mut left = (FILES_BYTES_MAX as u64, LOOKS_MAX);
    walk(&project, &root, String::new(), (&mut found, &mut left), 0)?;
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn walk(
    project: &Path,
    at: &Path,
    name: String,
    (found, left): (&mut Vec<Found>, &mut (u64, usize)),
    depth: usize,
) -> Result<(), String> {
    let looks = left.1.checked_sub(1).ok_or_else(|| format!("more than {LOOKS_MAX} files and folders: name fewer"))?;
    left.1 = looks;
    let real = at.canonicalize().map_err(|error| format!("{}: {error}", at.display()))?;
    if !real.starts_with(project) {
        return Err(format!("{} leads out of the project: copy it there", at.display()));
    }
    let what = fs::metadata(&real).map_err(|error| format!("{}: {error}", at.display()))?;
    if what.is_dir() {
        if depth >= DEPTH_MAX {
            return Err(format!("folders deeper than {DEPTH_MAX}: build them into the image"));
        }
        for entry in fs::read_dir(&real).map_err(|error| format!("{}: {error}", at.display()))? {
            let entry = entry.map_err(|error| error.to_string())?.file_name();
            let Some(entry) = entry.to_str() else {
                return Err(format!("{} has a file whose name is not UTF-8", at.display()));
            };
            let name = if name.is_empty() { entry.to_owned() } else { format!("{name}/{entry}") };
            walk(project, &at.join(entry), name, (&mut *found, &mut *left), depth + 1)?;
        }
        return Ok(());
    }
    if !what.is_file() {
        return Err(format!("{} is neither file nor folder", at.display()));
    }
    if found.len() >= FILES_MAX || what.len() > left.0 {
        return Err(format!(
            "{FILES_MAX} files of {FILES_BYTES_MAX} bytes together are given at most: build what is more into the image"
        ));
    }
    let mut bytes = Vec::new();
    let file = File::open(&real).map_err(|error| format!("{}: {error}", at.display()))?;
    file.take(left.0 + 1).read_to_end(&mut bytes).map_err(|error| format!("{}: {error}", at.display()))?;
    left.0 = left.0.saturating_sub(bytes.len() as u64);
    found.push(Found { path: name, mode: mode(&what), bytes });
    Ok(())
}

#[cfg(unix)]
fn mode(what: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    what.permissions().mode() & 0o777
}

#[cfg(not(unix))]
fn mode(_: &fs::Metadata) -> u32 {
    0o644
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_project_are_read_and_nothing_that_a_link_leads_to_outside() {
        let folder = std::env::temp_dir().join(format!("hodei-beside-{}", std::process::id()));
        let project = folder.join("project");
        fs::create_dir_all(project.join("conf/d")).unwrap();
        fs::write(project.join("conf/a"), "1").unwrap();
        fs::write(project.join("conf/d/b"), "22").unwrap();
        fs::write(folder.join("outside"), "3").unwrap();
        let names = |found: Vec<Found>| found.into_iter().map(|one| (one.path, one.bytes.len())).collect::<Vec<_>>();
        assert_eq!(names(beside(&project, "./conf").unwrap()), [("a".to_owned(), 1), ("d/b".to_owned(), 2)]);
        assert_eq!(names(beside(&project, "conf/a").unwrap()), [(String::new(), 1)]);
        assert!(beside(&project, "./none").unwrap_err().contains("not there"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("a", project.join("conf/link")).unwrap();
            assert_eq!(beside(&project, "./conf").unwrap().len(), 3, "a link inside is what it leads to");
            std::os::unix::fs::symlink("../../outside", project.join("conf/out")).unwrap();
            assert!(beside(&project, "./conf").unwrap_err().contains("out of the project"));
            fs::remove_file(project.join("conf/out")).unwrap();
        }
        fs::write(project.join("conf/big"), vec![0; FILES_BYTES_MAX + 1]).unwrap();
        assert!(beside(&project, "./conf").unwrap_err().contains("build what is more"));
        fs::remove_dir_all(folder).unwrap();
    }
}
