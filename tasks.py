"""The menu: each verb parses its arguments and calls one function of the host package."""

from __future__ import annotations

from typing import Any

from invoke import Collection, Context, Exit, Task, task

from cofferdam.buildmenu import BOOT_FORMAT, build_vm
from cofferdam.imagemenu import UPDATE_TASKS
from cofferdam.menu import JSON, NAME, PROFILE, QUIET, verb, working
from cofferdam.releasemenu import RELEASE_TASKS, keys


@task(help={"k": "pytest's -k expression", "unit": "only the tests that need no VM", "args": "further arguments for pytest"})
@verb
def test(_: Context, k: str = "", unit: bool = False, args: str = "") -> None:
    """All tests: host, guest and contract tests, then the suites on booted VMs.  Example: inv test --unit"""
    from cofferdam.testing import run_tests

    run_tests(select=k, unit_only=unit, extra=args)


class Lettered(Task[Any]):
    """A task whose options are shortened to letters only: Invoke would take the `-` of `ca-file`, and so `--`."""

    def arg_opts(self, name: str, default: str, taken_names: set[str]) -> dict[str, Any]:
        """See Task."""
        return super().arg_opts(name, default, {*taken_names, "-"})


_DESKTOP = {
    "share": "directory for containers to mount, PATH or PATH:ro, once for each, or none; default: the home directory",
    "socket": "Unix socket on this machine for programs that want one, such as ~/.docker/run/cofferdam.sock",
    "ca-file": "certificate authorities (PEM) that registries may be signed by; may be given several times",
    "proxy": "way out for pulls, http://HOST:PORT, or none; default: http_proxy, https_proxy and no_proxy of this environment",
}


def desktop(share: list[str] | None, socket: str, ca_file: list[str] | None, proxy: str) -> dict[str, Any]:
    """The settings that the options of _DESKTOP stand for."""
    from cofferdam.machine.settings import shares_option

    return {"shares": shares_option(share or []), "socket": socket, "ca_files": ca_file, "proxy": proxy}


@task(help={"profile": PROFILE, "name": NAME, **_DESKTOP, "quiet": QUIET}, iterable=["share", "ca_file"], klass=Lettered)
@working
@verb
def up(
    _: Context,
    profile: str = "default",
    name: str = "default",
    share: list[str] | None = None,
    socket: str = "",
    ca_file: list[str] | None = None,
    proxy: str = "",
) -> None:
    """Check the host, build what is needed, boot, and show an isolated container.  Example: inv up --share ~/src"""
    from cofferdam import verbs

    verbs.up(profile, name, **desktop(share, socket, ca_file, proxy))


@task(help={"fix": "as root, install the Debian packages that are missing", "json": JSON})
@verb
def doctor(_: Context, fix: bool = False, json: bool = False) -> None:
    """Check every requirement of this machine; ends with 3 when one is not met.  Example: inv doctor --fix"""
    from cofferdam import verbs

    verbs.doctor(fix=fix, as_json=json)


@task(help={"name": PROFILE, "json": JSON})
@verb
def profile(_: Context, name: str, json: bool = False) -> None:
    """Print a profile, its include resolved.  Example: inv profile debug"""
    from cofferdam import verbs

    verbs.profile(name, as_json=json)


_BOOT = {
    "name": NAME,
    "profile": f"{PROFILE}; default: that of the image it boots, else default",
    **BOOT_FORMAT,
    "image": "folder of a release, booted from then on; or latest: what was built here, from then on",
    "key": "with --image: allowed_signers file of who makes the releases",
    "unverified": "with --image: also what `inv verify` does not accept",
    "accel": "auto, kvm, whpx, hvf or tcg",
    "hyperv": "use Windows' hypervisor, by QEMU (WHPX), or fail",
    "native": "with --hyperv: a virtual machine of Hyper-V itself, without QEMU",
    "emulate-hyperv": "on Linux: show the guest Hyper-V's interfaces; needs KVM",
    "cpus": "virtual CPUs; default: the host's, at most 4",
    "memory": "size, such as 4G; default 2G",
    "data-disk": "size, such as 40G; a larger one than before grows the disk; default 20G",
    "docker-port": "host port of the Docker API; default: a free one",
    "ssh-port": "host port of ssh (debug images); default: a free one",
    "publish": "host address on which published ports listen; default 127.0.0.1, this machine only",
    "policy": "admin-settings.json for this boot; what the image locks stays",
    **_DESKTOP,
    "mtu": "largest packet of the VM's network and of Docker's, 576 to 9000; default 1500",
    "activate": "make the docker context the current one until the instance stops; default: yes",
    "timeout": "seconds until Docker must be ready",
    "timings": "show where the time went",
    "plot": "draw that into this SVG file, too",
    "json": JSON,
    "quiet": QUIET,
}


@task(help=_BOOT, iterable=["share", "ca_file"], klass=Lettered)
@working
@verb
def boot(
    _: Context,
    name: str = "default",
    profile: str = "",
    accel: str = "auto",
    cpus: str = "",
    memory: str = "",
    data_disk: str = "",
    docker_port: str = "",
    ssh_port: str = "",
    publish: str = "",
    policy: str = "",
    share: list[str] | None = None,
    timeout: str = "",
    timings: bool = False,
    plot: str = "",
    json: bool = False,
    socket: str = "",
    ca_file: list[str] | None = None,
    proxy: str = "",
    mtu: str = "",
    activate: bool = True,
    hyperv: bool = False,
    native: bool = False,
    emulate_hyperv: bool = False,
    format: str = "",
    secure_boot: str = "",
    certificate: str = "",
    image: str = "",
    key: str = "",
    unverified: bool = False,
    tpm: bool = False,
    recovery_key: str = "",
) -> None:
    """Boot an instance and wait until Docker answers.  Example: inv boot --name work --memory 4G --data-disk 40G"""
    from cofferdam import imageverbs

    options = {"name": name, "profile": profile, "accel": accel, "cpus": cpus, "memory": memory, "data_disk": data_disk}
    options |= {"docker_port": docker_port, "ssh_port": ssh_port, "publish": publish, "policy": policy, "timeout": timeout}
    options |= {"mtu": mtu, **desktop(share, socket, ca_file, proxy)}
    options |= {"format": format, "secure_boot": secure_boot, "certificate": certificate, "recovery_key": recovery_key}
    # What is not said is not remembered as a choice.
    options |= {} if activate else {"activate": False}
    switches = {"hyperv": hyperv, "native": native, "emulate_hyperv": emulate_hyperv, "tpm": tpm}
    options |= {key: True for key, given in switches.items() if given}
    imageverbs.boot(as_json=json, timings=timings, plot=plot, image=image, key=key, unverified=unverified, **options)


@task(help={"name": NAME, "plot": "draw them into this SVG file", "json": JSON})
@verb
def timings(_: Context, name: str = "default", plot: str = "", json: bool = False) -> None:
    """Show where the time of the latest boot went, stage by stage.  Example: inv timings --plot boot.svg"""
    from cofferdam import dayverbs

    dayverbs.timings(name, as_json=json, plot=plot)


@task(help={"name": NAME, "out": "the archive; default: cofferdam-NAME.tar.gz"})
@verb
def diagnose(_: Context, name: str = "default", out: str = "") -> None:
    """Write an archive for a bug report, without keys and passwords.  Example: inv diagnose --out report.tar.gz"""
    from cofferdam import dayverbs

    dayverbs.diagnose(name, out)


@task(help={"name": NAME, "follow": "go on with new ones", "json": JSON})
@verb
def denied(_: Context, name: str = "default", follow: bool = False, json: bool = False) -> None:
    """Show what was refused, in all boots of an instance: the latest thousand.  Example: inv denied --follow --json"""
    from cofferdam import dayverbs

    dayverbs.denied(name, follow=follow, as_json=json)


@task(help={"name": NAME, "port": "port of this machine; default: a free one", "open": "in the browser as well"})
@verb
def page(_: Context, name: str = "default", port: str = "", open: bool = False) -> None:
    """Show an instance as a web page, only on this machine and only to look at.  Example: inv page --open"""
    from cofferdam import dayverbs

    dayverbs.page(name, port, open_it=open)


@task(help={"shell": "bash, zsh or fish"})
@verb
def completion(_: Context, shell: str) -> None:
    """Print the script that completes verbs, options and names.  Example: eval "$(./inv completion bash)" (fish: | source)"""
    from cofferdam.completion import completion_script

    print(completion_script(shell), end="")


@task(help={"name": "one instance; default: all", "json": JSON})
@verb
def status(_: Context, name: str = "", json: bool = False) -> None:
    """Show instances and how to reach them.  Example: inv status --json"""
    from cofferdam import verbs

    verbs.status(name, as_json=json)


@task(help={"name": NAME, "force": "end it at once, as if the power failed"})
@verb
def stop(_: Context, name: str = "default", force: bool = False) -> None:
    """Stop an instance; its data disk stays.  Example: inv stop --name work"""
    from cofferdam import verbs
    from cofferdam.machine import api

    verbs.show(api.stop(name, force=force).line())


@task(
    help={
        "name": NAME,
        "lines": "how many of the last ones",
        "follow": "go on with new ones",
        "unit": "journal of a systemd unit (debug images)",
    }
)
@verb
def logs(_: Context, name: str = "default", lines: int = 50, follow: bool = False, unit: str = "") -> None:
    """Show the console of an instance, or the journal of a unit.  Example: inv logs --follow"""
    from cofferdam import verbs
    from cofferdam.machine import api

    verbs.show(api.logs(name, lines=lines, follow_on=follow, unit=unit))


@task(help={"name": NAME, "command": "run this instead of a shell"})
@verb
def ssh(_: Context, name: str = "default", command: str = "") -> None:
    """Open a shell in a debug image.  Example: inv ssh --command 'systemctl status docker'"""
    from cofferdam.machine import api

    raise Exit(code=api.ssh(name, [command] if command else []))


@task(
    help={
        "runs": "figures of each side that count",
        "out": "directory of the results",
        "plot": "draw the ratios into this SVG file",
        "json": JSON,
        "quiet": QUIET,
    }
)
@working
@verb
def bench(_: Context, runs: int = 5, out: str = "bench/results", plot: str = "", json: bool = False) -> None:
    """Measure against stock runc and stock Debian in one run; not a test.  Example: inv bench --runs 3 --plot ratios.svg"""
    from cofferdam.benchverb import bench

    bench(runs, out, as_json=json, plot=plot)


@task(help={"file": "an admin-settings.json", "json": JSON})
@verb
def check(_: Context, file: str, json: bool = False) -> None:
    """Check a policy; ends with 2 and FILE:LINE:COLUMN when it cannot be used.  Example: inv policy.check company.json"""
    from cofferdam import verbs

    verbs.policy_check(file, as_json=json)


@task(name="show", help={"file": "policy given at boot; default: none", "profile": PROFILE, "json": JSON})
@verb
def show_policy(_: Context, file: str = "", profile: str = "default", json: bool = False) -> None:
    """Show the policy that holds, and its hash as docker info shows it.  Example: inv policy.show --file company.json"""
    from cofferdam import verbs

    verbs.policy_show(file, profile, as_json=json)


@task(name="list", help={"json": JSON})
@verb
def list_instances(_: Context, json: bool = False) -> None:
    """Show all instances, a line each, deleted ones whose disk is kept as well.  Example: inv list"""
    from cofferdam import lifeverbs

    lifeverbs.list_instances(as_json=json)


@task(help={"name": NAME, "force": "end it at once, as if the power failed", "json": JSON, "quiet": QUIET})
@working
@verb
def restart(_: Context, name: str = "default", force: bool = False, json: bool = False) -> None:
    """Stop an instance and boot it as it was booted last, with the sizes stored since.  Example: inv restart --name work"""
    from cofferdam import lifeverbs

    lifeverbs.restart(name, force=force, as_json=json)


@task(help={"name": NAME, "data": "its data disk and snapshots as well", "yes": "do not ask"})
@verb
def delete(_: Context, name: str = "default", data: bool = False, yes: bool = False) -> None:
    """Delete an instance, stopped first when it runs; its data disk stays.  Example: inv delete --name work --data"""
    from cofferdam import lifeverbs

    lifeverbs.delete(name, data=data, yes=yes)


_RESIZE = {
    "name": NAME,
    "cpus": "virtual CPUs of later boots",
    "memory": "memory of later boots, such as 4G",
    "disk": "size of the data disk, such as 40G; it only grows",
}


@task(help=_RESIZE)
@verb
def resize(_: Context, name: str = "default", cpus: str = "", memory: str = "", disk: str = "") -> None:
    """Store sizes for later boots, grow the data disk at once.  Example: inv resize --cpus 4 --memory 8G --disk 60G"""
    from cofferdam import lifeverbs

    lifeverbs.resize(name, cpus, memory, disk)


LABEL = "name of the snapshot"


@task(help={"label": LABEL, "name": NAME})
@verb
def save(_: Context, label: str, name: str = "default") -> None:
    """Copy the data disk of a stopped instance.  Example: inv snapshot.save --label before-upgrade"""
    from cofferdam import lifeverbs

    lifeverbs.snapshot_save(name, label)


@task(help={"label": LABEL, "name": NAME})
@verb
def restore(_: Context, label: str, name: str = "default") -> None:
    """Bring a saved data disk back; what the disk holds now is lost.  Example: inv snapshot.restore --label before-upgrade"""
    from cofferdam import lifeverbs

    lifeverbs.snapshot_restore(name, label)


@task(name="list", help={"name": NAME, "json": JSON})
@verb
def list_snapshots(_: Context, name: str = "default", json: bool = False) -> None:
    """Show the snapshots of an instance.  Example: inv snapshot.list --json"""
    from cofferdam import lifeverbs

    lifeverbs.snapshot_list(name, as_json=json)


@task(name="delete", help={"label": LABEL, "name": NAME})
@verb
def delete_snapshot(_: Context, label: str, name: str = "default") -> None:
    """Delete a snapshot.  Example: inv snapshot.delete --label before-upgrade"""
    from cofferdam import lifeverbs

    lifeverbs.snapshot_delete(name, label)


@task(help={"dry-run": "only show what would go", "json": JSON, "yes": "do not ask"})
@verb
def prune(_: Context, dry_run: bool = False, json: bool = False, yes: bool = False) -> None:
    """Remove from the build cache what no profile's image refers to.  Example: inv prune --dry-run"""
    from cofferdam import lifeverbs

    lifeverbs.prune(dry_run=dry_run, as_json=json, yes=yes)


namespace = Collection(test, up, doctor, profile, build_vm, boot, timings, diagnose, completion, status, stop, logs, ssh, bench)
for life in (denied, page, list_instances, restart, delete, resize, prune, *RELEASE_TASKS, *UPDATE_TASKS):
    namespace.add_task(life)
namespace.add_collection(keys)
namespace.add_collection(Collection("policy", check, show_policy))
namespace.add_collection(Collection("snapshot", save, restore, list_snapshots, delete_snapshot))
