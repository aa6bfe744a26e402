//! What a container cannot do and does not see.

use std::fs;
use std::path::Path;

use switchyard_agent::runtime::Runtime;
use switchyard_agent::runtime::process::{ProcessRuntime, Settings};

use crate::host::{Host, Tests, container, folder, settings, uid};

pub(crate) const TESTS: Tests = &[
    ("the_root_is_read_only", the_root_is_read_only),
    ("what_can_be_written_is_its_own", what_can_be_written_is_its_own),
    ("privileges_are_few", privileges_are_few),
    ("the_kernel_is_out_of_reach", the_kernel_is_out_of_reach),
    ("secrets_are_hidden", secrets_are_hidden),
    ("other_processes_are_not_seen", other_processes_are_not_seen),
    ("nothing_of_the_agent_is_inherited", nothing_of_the_agent_is_inherited),
];

fn the_root_is_read_only(host: &Host) {
    let pod = host.pod("web");
    let script = "for place in / /etc /usr /usr/bin /var /var/lib /sys /root /home; do
            touch $place/file-of-a-test 2>/dev/null && echo $place
        done
        mount -o remount,rw / 2>/dev/null && echo remounted
        mount -t tmpfs none /mnt 2>/dev/null && echo mounted
        umount /proc 2>/dev/null && echo unmounted
        unshare -m true 2>/dev/null && echo unshared
        chroot / true 2>/dev/null && echo changed root
        mknod /tmp/disk b 8 0 2>/dev/null && echo made a device
        echo done";
    assert_eq!(host.shell(&pod, script), "done\n");
    assert!(!Path::new("/etc/file-of-a-test").exists());
}

fn what_can_be_written_is_its_own(host: &Host) {
    let pod = host.pod("web");
    let write = "echo mine > /tmp/file && echo mine > /run/file && echo mine > /var/run/other && echo mine >/dev/shm/file
        cat /tmp/file /run/file /var/run/other /var/tmp/file; ls -A /tmp";
    assert_eq!(host.shell(&pod, write), "mine\nmine\nmine\nmine\nfile\n");
    assert!(!Path::new("/run/file").exists() && !Path::new("/tmp/file").exists());
    // Shared memory is the pod's, as in Kubernetes; the rest ends with the container.
    assert_eq!(host.shell(&pod, "ls -A /tmp /run /dev/shm"), "/dev/shm:\nfile\n\n/run:\n\n/tmp:\n");
}

fn privileges_are_few(host: &Host) {
    let pod = host.pod("web");
    let status = host.shell(&pod, "grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status");
    // CHOWN, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE, NET_RAW.
    let some = [0, 3, 4, 5, 6, 7, 10, 13].iter().fold(0_u64, |bits, bit| bits | 1 << bit);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(status.contains(&format!("{set}:\t{some:016x}\n")), "{status}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t{:016x}\n", 0)), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n") && status.contains("Groups:\t \n"), "{status}");
    let output = host.shell(&pod, "ip link add x type dummy 2>/dev/null && echo made a link; date -s 12:00 >/dev/null 2>&1 && echo set the clock; hostname other 2>/dev/null && echo renamed; echo done");
    assert_eq!(output, "done\n");
}

fn the_kernel_is_out_of_reach(host: &Host) {
    let pod = host.pod("web");
    // Without any capability the superuser could write these.
    let script = "for file in /proc/sys/kernel/core_pattern /proc/sys/kernel/domainname /proc/sysrq-trigger /proc/1/oom_score_adj /sys/kernel/uevent_helper; do
            [ -e $file ] && sh -c \": > $file\" 2>/dev/null && echo $file
        done
        ls /dev | tr '\\n' ' '; head -c 1 /dev/urandom | wc -c; echo x > /dev/null";
    assert_eq!(
        host.shell(&pod, script),
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero 1\n"
    );
}

fn secrets_are_hidden(host: &Host) {
    fs::create_dir_all("/run/secret").unwrap();
    let pod = host.pod("web");
    let script =
        "ls -A /root /home /run /var/lib /boot /mnt | grep -v ':$' | tr -d '\\n'; cat /proc/self/mountinfo";
    let seen = host.shell(&pod, script);
    let (listed, mounts) = seen.split_at(seen.find(|letter: char| letter.is_ascii_digit()).unwrap());
    assert_eq!(listed, "");
    assert!(!mounts.contains("nsfs") && !mounts.contains("/pods "), "{mounts}");

    assert_eq!(host.shell(&pod, "cat /etc/shadow /etc/machine-id; ls -A /etc/ssl/private"), "");

    // Whatever its owner names is hidden as well, files and folders.
    let hidden = ["/usr/share", "/etc/passwd", "/no/such"].map(Into::into).to_vec();
    let folder = folder();
    let runtime = ProcessRuntime::open(Settings { hidden, ..settings(&folder, "other") }).unwrap();
    let other = Host { runtime, folder };
    let pod = other.pod("other");
    let script = ["sh", "-c", "ls -A /usr/share; cat /etc/passwd; echo >> /etc/passwd; ls / | grep -c no"];
    other.start(&pod, &script);
    assert_eq!(other.end(&pod, "main").exit_code, 1);
    assert_eq!(other.output(&pod, "main"), "0\n");
}

fn other_processes_are_not_seen(host: &Host) {
    let pod = host.pod("web");
    host.runtime.start_container(&uid("web"), &container("other", &["sleep", "600"])).unwrap();
    assert_eq!(host.shell(&pod, "echo $$ /proc/[0-9]*; cat /proc/sys/kernel/hostname"), "1 /proc/1\nweb\n");
}

fn nothing_of_the_agent_is_inherited(host: &Host) {
    let pod = host.pod("web");
    assert_eq!(
        host.shell(&pod, "ls /proc/self/fd | wc -l; umask; ulimit -c >/dev/null; pwd"),
        "4\n0022\n/\n"
    );
}
