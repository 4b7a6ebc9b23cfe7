# Programs that the tests need beside Rust, and where they come from. Sourced after lib.sh.

# cargo-deny: what is on the machine, else built from source below the target folder: a minute on two cores, once.
# Without optimisation it still checks in a second.
provide_cargo_deny() {
  have cargo-deny && return
  say "building cargo-deny, once"
  cargo install --quiet --locked --debug --root "$TOOLS" --version 0.20.2 cargo-deny
}

# Docker's command line. Debian 12 has it only inside the package of the engine, which is unpacked and not
# installed: no engine is to be started.
provide_docker() {
  have docker && return
  apt_install docker-cli && have docker && return
  is_root && have apt-get && have dpkg-deb || return 1
  local folder
  folder=$(mktemp -d)
  if (cd "$folder" && apt-get download -qq docker.io && dpkg-deb -x docker.io_*.deb .) >/dev/null 2>&1; then
    mkdir -p "$TOOLS/bin"
    install -m 755 "$folder/usr/bin/docker" "$TOOLS/bin/docker"
  fi
  rm -rf "$folder"
  have docker
}

# Installs what the end-to-end tests need. Prints why they cannot run and is true, or is false.
missing_for_beds() {
  is_root || { echo "network namespaces need root: sudo scripts/test"; return; }
  provide ip iproute2 || { echo "the program ip is missing: apt-get install iproute2"; return; }
  provide nft nftables || { echo "the program nft is missing: apt-get install nftables"; return; }
  provide nsenter util-linux || { echo "the program nsenter is missing: apt-get install util-linux"; return; }
  provide_docker || { echo "the docker command is missing: apt-get install docker-cli, or docker.io"; return; }
  unshare --net --mount --uts --ipc --pid --fork true 2>/dev/null ||
    { echo "this machine does not allow new namespaces"; return; }
  return 1
}

# Installs what the tests of containers, images and logs need. Prints why they cannot run and is true, or is false. An
# installed containerd is not started: each test starts one of its own.
missing_for_containers() {
  is_root || { echo "containers need root: sudo scripts/test"; return; }
  local program package
  while read -r program package; do
    provide "$program" "$package" || { echo "the program $program is missing: apt-get install $package"; return; }
  done <<'END'
containerd containerd
ctr containerd
runc runc
crun crun
busybox busybox-static
docker-registry docker-registry
skopeo skopeo
umoci umoci
END
  return 1
}

# The containerd of another Debian release, unpacked below the target folder and not installed: prints the directory of
# its programs. The installed runc is used with it, for a newer release's needs a newer libc. Prints why there is none,
# and is false.
containerd_of() {
  local suite=$1 folder=$TOOLS/containerd-$1 ring=/usr/share/keyrings/debian-archive-keyring.gpg package
  if [ ! -x "$folder/usr/bin/containerd" ]; then
    { have apt-get && have dpkg-deb && [ -r "$ring" ]; } ||
      { echo "only Debian's tools can fetch it"; return 1; }
    rm -rf "$folder.new"
    mkdir -p "$folder.new"/apt/{lists/partial,archives/partial}
    echo "deb [signed-by=$ring] http://deb.debian.org/debian $suite main" >"$folder.new/apt/sources.list"
    # A list of sources of its own, so that nothing of the machine's changes. apt checks the archive's signature on the
    # list of packages, and the package's checksum in that.
    cat >"$folder.new/apt/apt.conf" <<END
Dir::State "$folder.new/apt";
Dir::State::status "/dev/null";
Dir::Cache "$folder.new/apt";
Dir::Etc::sourcelist "$folder.new/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
END
    export APT_CONFIG=$folder.new/apt/apt.conf
    timeout 60 apt-get update -qq -o Acquire::Retries=1 >"$folder.new/said" 2>&1 &&
      (cd "$folder.new" && timeout 60 apt-get download -qq containerd) >>"$folder.new/said" 2>&1 ||
      { echo "it cannot be fetched: $(tail -n 1 "$folder.new/said")"; unset APT_CONFIG; return 1; }
    unset APT_CONFIG
    package=$(echo "$folder.new"/containerd_*.deb)
    dpkg-deb -x "$package" "$folder.new" || { echo "$package cannot be unpacked"; return 1; }
    rm -rf "$folder.new/apt" "$folder.new/said" "$package" "$folder"
    mv "$folder.new" "$folder"
  fi
  "$folder/usr/bin/containerd" --version >/dev/null 2>&1 ||
    { echo "it does not run here: $("$folder/usr/bin/containerd" --version 2>&1 | tail -n 1)"; return 1; }
  echo "$folder/usr/bin"
}
