//! Lay out all that a container stands on, before the engine hears of it.

use crate::{
    bundle,
    container::give,
    disk,
    engine::Engine,
    error::Error,
    given,
    image::{Image, User},
    layers,
    root::Root,
    spec::Spec,
};
use std::{
    fs::{self, File},
    os::unix::fs::DirBuilderExt,
};

/// Unpacks what is not there, makes the disk, mounts the root, writes the engine's file; gives the signal that stops it.
pub(crate) fn prepare(engine: &Engine, spec: &Spec) -> Result<i32, Error> {
    let (folder, run) = (engine.container(&spec.id), engine.run_folder(&spec.id));
    let image = Image::parse(&spec.config)?;
    let diff_ids = image.diff_ids()?;
    if diff_ids.len() != spec.layers.len() {
        let (said, given) = (diff_ids.len(), spec.layers.len());
        return Err(Error::Image(format!("its config tells of {said} layers, and {given} are given")));
    }
    let process = image.process(spec)?;
    let mut bytes_left = engine.0.image_bytes_max;
    let unpacked = spec.layers.iter().zip(&diff_ids).enumerate();
    let unpacked = unpacked.map(|(at, (layer, id))| layers::ensure(&engine.layers(), at, layer, id, &mut bytes_left));
    let unpacked = unpacked.collect::<Result<Vec<_>, _>>()?;
    for (path, mode) in [(&folder, 0o700), (&run, 0o711)] {
        fs::DirBuilder::new().mode(mode).create(path).map_err(Error::at(path))?;
    }
    let (disk, root) = (folder.join("disk"), run.join("rootfs"));
    disk::make(&folder.join("disk.img"), spec.disk_bytes, &disk)?;
    fs::create_dir(&root).map_err(Error::at(&root))?;
    disk::overlay(&unpacked, &folder.join("links"), &disk, &root)?;
    let opened = Root::open(&root).map_err(Error::at(&root))?;
    read_by_engine(&opened)?;
    let user = User::find(&process.user, &opened)?;
    let mut hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.0.1 {}\n", spec.hostname);
    for (name, address) in &spec.hosts {
        hosts.push_str(&format!("{address} {name}\n"));
    }
    give(run.join("hosts"), &hosts)?;
    give(run.join("hostname"), &format!("{}\n", spec.hostname))?;
    given::lay(spec, &run)?;
    // There is nobody to ask.
    give(run.join("resolv.conf"), "")?;
    let volumes =
        spec.volumes.iter().map(|volume| engine.volume(&spec.id, volume, &root)).collect::<Result<Vec<_>, _>>()?;
    let path = folder.join("config.json");
    let config = bundle::config(spec, &process, &user, &run, &volumes).to_string();
    fs::write(&path, config).map_err(Error::at(&path))?;
    Ok(process.stop_signal)
}

/// Refuses what an engine would open, and wait at for ever: it reads these within the container that it makes.
fn read_by_engine(root: &Root) -> Result<(), Error> {
    for name in ["etc/passwd", "etc/group"] {
        let Ok(found) = root.at(name.as_bytes(), libc::O_PATH) else { continue };
        let about = File::from(found).metadata().map_err(Error::io(name))?;
        if !about.is_file() {
            return Err(Error::Image(format!("its {name} is no file")));
        }
    }
    Ok(())
}
