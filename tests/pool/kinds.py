"""The kinds of jobs that HTCondor knows: a table for test_same_as_without.py.

Every kind says what is submitted, what is done to the job while it runs, and how it must end, so
that two runs cannot agree in having failed alike. A job finds its submit directory, which is on
a file system that all nodes share, in the variable PLACE: what it puts there is seen at once.

It is one table, and so one file, although a long one: whoever adds a kind sees what there is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple


class Step(NamedTuple):
    """Once the user log has the event `after`, or a file of that name is there: run `command`.

    The command runs as the job's user in the submit directory; `{id}` is the job's.
    """

    after: str
    command: str


class Kind(NamedTuple):
    """One kind of job.

    `ad` are attributes and `files` patterns of file contents that must be so, plugin or no
    plugin; `opaque` are returned files whose contents, but not existence, change at every run;
    `needs` is a program in the guest; `volatile` is a pattern of attributes that are a matter of
    luck for this kind.
    """

    name: str
    description: str
    sources: Mapping[str, str | bytes] = {}
    steps: tuple[Step, ...] = ()
    end: str = "terminated"
    ad: Mapping[str, Any] = {"JobStatus": 4, "ExitBySignal": False, "ExitCode": 0}
    files: Mapping[str, str] = {}
    opaque: tuple[str, ...] = ()
    needs: str = ""
    volatile: str = ""


class Difference(NamedTuple):
    """A difference that is known and meant, and all that it comes to.

    In the lines that are told without the plugin each pattern of `changes` is to be replaced;
    lines with a match of `consequences` are not compared.
    """

    reason: str
    changes: tuple[tuple[str, str], ...]
    consequences: str

    def applied(self, lines: list[str]) -> list[str]:
        """What is to be told with the plugin, from what was told without it."""
        for pattern, replacement in self.changes:
            lines = [re.sub(pattern, replacement, line) for line in lines]
        return self.compared(lines)

    def compared(self, lines: list[str]) -> list[str]:
        """The lines but those that are only a consequence."""
        return [line for line in lines if not re.search(self.consequences, line)]


COMPLETED = {"JobStatus": 4, "ExitBySignal": False, "ExitCode": 0}
PLACE = 'environment = "PLACE=$Ffp(SUBMIT_FILE)"\n'
TRANSFER = "should_transfer_files = YES\n"
WAIT = 'touch "$PLACE/mark.ready"\nwhile :; do sleep 600 & wait $!; done\n'
READY = "mark.ready"


def script(name: str, text: str, more: str = "", **fields: Any) -> Kind:
    """A shell script, transferred to the node as most executables are."""
    sources = {"job": "#!/bin/sh\n" + text, **fields.pop("sources", {})}
    return Kind(name, f"executable = job\n{TRANSFER}{more}", sources, **fields)


def placed(name: str, text: str, more: str = "", **fields: Any) -> Kind:
    """A shell script that knows its submit directory."""
    return script(name, text, PLACE + more, **fields)


def program(name: str, path: str, arguments: str, more: str = "", **fields: Any) -> Kind:
    """A program of the node's, executed by the starter itself and not by a shell."""
    lines = f'executable = {path}\narguments = "{arguments}"\ntransfer_executable = false\n'
    return Kind(name, lines + TRANSFER + more, **fields)


def exited(code: int) -> Kind:
    ad = {**COMPLETED, "ExitCode": code}
    return script(f"exit_{code}", f"exit {code}\n", ad=ad)


def killed(name: str, number: int) -> Kind:
    ad = {"JobStatus": 4, "ExitBySignal": True, "ExitSignal": number}
    return script(f"killed_by_{name}", f"kill -{number} $$\nsleep 5\n", ad=ad)


def held(code: int, subcode: int) -> dict[str, int]:
    return {"JobStatus": 5, "HoldReasonCode": code, "HoldReasonSubCode": subcode}


# Hex, because a difference in one byte should be seen in the test's message.
SHOW_ARGV = """-ISEc 'print(open(""/proc/self/cmdline"",""rb"").read().hex())'"""


def arguments(name: str, written: bytes, hexadecimal: str) -> Kind:
    """Arguments as the submit file has them, and a pattern of the NUL-ended bytes in hex."""
    line = b'arguments = "' + SHOW_ARGV.encode() + b" " + written + b'"\n'
    more = f"executable = /usr/bin/python3\ntransfer_executable = false\n{TRANSFER}"
    shown = {"output.0": f"00{hexadecimal}\n$"}
    # Included, because a description is text and need not be UTF-8.
    return Kind(name, more + "include : arguments.sub\n", {"arguments.sub": line}, files=shown)


NEWLINE = (
    '+Arguments = strcat("-ISEc \'print(open(\\"/proc/self/cmdline\\",\\"rb\\").read().hex())\' '
    '\'a", formatTime(0, "%n"), "b\'")\n'
)

ENDINGS = [
    *(exited(code) for code in (0, 1, 7, 127, 128, 255)),
    killed("SIGHUP", 1),
    killed("SIGABRT", 6),
    killed("SIGKILL", 9),
    killed("SIGSEGV", 11),
    # The starter ignores it, and so do its jobs.
    killed("SIGPIPE_in_vain", 13)._replace(ad=COMPLETED),
    killed("SIGTERM", 15),
    killed("SIGXCPU", 24),
    killed("a_real_time_signal", 37),
    script(
        "kills_its_process_group",
        "sleep 600 &\nkill -TERM 0\nsleep 5\n",
        ad={"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 15},
    ),
    program(
        "out_of_memory",
        "/usr/bin/dd",
        "if=/dev/zero of=/dev/null bs=400M count=1",
        "request_memory = 64\n",
        end="held",
        ad={"JobStatus": 5, "HoldReasonCode": 34},  # the subcode is 0 on 23.9, 102 on 25.14
    ),
    script(
        "out_of_memory_in_a_child",
        "dd if=/dev/zero of=/dev/null bs=400M count=1\nexit 3\n",
        "request_memory = 64\n",
        end="held",
        ad={"JobStatus": 5, "HoldReasonCode": 34},  # the subcode is 0 on 23.9, 102 on 25.14
    ),
    script(
        "core_dump",
        "kill -ABRT $$\n",
        "coresize = 100000000\n",
        ad={"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 6, "JobCoreDumped": True},
        files={"core.CLUSTER.PROC": "^\x7fELF"},
        opaque=("core.CLUSTER.PROC",),
    ),
    script(
        "leaves_a_process",
        "(setsid sh -c 'echo $$ >/dev/null; sleep 54321' </dev/null >/dev/null 2>&1 &)\n"
        "sleep 1\npgrep -fc '^sleep 54321'\n",
        steps=(Step("terminated", "pgrep -fc '^sleep 54321' >left"),),
        files={"output.0": "^1\n$", "left": "^0\n$"},
    ),
]

COMMAND = [
    arguments("arguments_with_blanks", b"'a b' ' ' 'c\td'", "61206200200063096400"),
    arguments("arguments_with_quotes", b"'it''s' \"\"x\"\" '\"\"'", "697427730022782200" + "2200"),
    arguments("arguments_that_are_empty", b"'' a ''", "00610000"),
    arguments("arguments_with_a_dollar", b"$HOME $(DOLLAR)x \\n", "24484f4d45002478005c6e00"),
    arguments("arguments_not_utf8", b"\xff\xfe 'caf\xe9'", "fffe00636166e900"),
    Kind(
        "arguments_with_a_newline",
        f"executable = /usr/bin/python3\ntransfer_executable = false\n{TRANSFER}{NEWLINE}",
        files={"output.0": "00610a6200\n$"},
    ),
    Kind(
        "arguments_in_the_old_syntax",
        f'executable = /bin/echo\narguments = one \\"two\\" three\n{TRANSFER}',
        files={"output.0": '^one "two" three\n$'},
    ),
    Kind(
        "argument_zero",
        f"executable = /bin/cat\narguments = /proc/self/cmdline\n{TRANSFER}",
        files={"output.0": "^[^\0]+\0/proc/self/cmdline\0$"},
    ),
    script("interpreter_with_an_argument", "", sources={"job": '#!/bin/sh -x\necho "$#"\n'}),
    program("executable_not_transferred", "/bin/echo", "here", files={"output.0": "^here\n$"}),
    Kind(
        "missing_interpreter",
        f"executable = job\n{TRANSFER}",
        {"job": "#!/no/such/interpreter\n"},
        end="held",
        ad={"JobStatus": 5, "HoldReasonSubCode": 2},
    ),
    Kind(
        "text_without_interpreter",
        f"executable = job\n{TRANSFER}",
        {"job": "echo no interpreter\n"},
        end="held",
        ad={"JobStatus": 5, "HoldReasonSubCode": 8},
    ),
    program(
        "missing_executable",
        "/no/such/program",
        "",
        end="held",
        ad={"JobStatus": 5, "HoldReasonSubCode": 2},
    ),
    program(
        "executable_without_the_right",
        "/etc/passwd",
        "",
        end="held",
        ad={"JobStatus": 5, "HoldReasonSubCode": 13},
    ),
]

SHOW_ENVIRONMENT = (
    "tr '\\0' '\\n' </proc/$$/environ | grep -v '^_CONDOR_ANCESTOR_' | sort\n"
)
SHOW_SESSION = """\
read pid name state ppid pgrp session tty tpgid flags rest </proc/self/stat
echo $((pid == pgrp)) $((pgrp == session)) $tty $tpgid $(($$ == pid))
"""

# KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING; its number is the same for all jobs that were
# started from one condor_master.
SHOW_LABELS = """#!/usr/bin/python3
import ctypes, pathlib
print("session keyring:", ctypes.CDLL(None).syscall(250, 0, -3, 0))
for name in ("attr/current", "attr/exec", "attr/apparmor/current", "sessionid", "setgroups"):
    try:
        print(name, pathlib.Path("/proc/self", name).read_text())
    except OSError as error:
        print(name, error.strerror)
"""

PROCESS = [
    script(
        "environment",
        SHOW_ENVIRONMENT,
        "environment = \"ONE=1 'TWO=a b' 'THREE=it''s ''' FOUR= 'FIVE=\"\"'\"\n",
        files={"output.0": "(?m)^TWO=a b$"},
    ),
    script(
        "environment_got_from_submit",
        SHOW_ENVIRONMENT,
        "getenv = true\n",
        files={"output.0": "(?m)^LOGNAME=alice$"},
    ),
    script(
        "working_directory",
        "pwd -P; echo \"$PWD\"; stat -c '%A %U %G %h %n' . .[!.]* *; ls -A ..\n",
    ),
    script("umask", "umask\n"),
    program("resource_limits", "/bin/cat", "/proc/self/limits", "coresize = 12345\n"),
    program("stack_size_limit", "/bin/cat", "/proc/self/limits", "stack_size = 1000000\n"),
    program(
        "signals_and_privileges",
        "/bin/grep",
        "-E '^(Sig[PBIC]|ShdPnd|Cap|NoNewPrivs|Seccomp|Speculation|Cpus_allowed|Mems|Threads|THP"
        "|untag|Uid|Gid)' /proc/self/status",
    ),
    script(
        "priority_and_scheduling",
        "nice; ionice; chrt -p $$ | sed 's/.*: //'; taskset -p $$ | sed 's/.*: //'\n"
        "cat /proc/self/oom_score_adj /proc/self/coredump_filter /proc/self/personality "
        "/proc/self/loginuid /proc/self/timerslack_ns\n",
        files={"output.0": "^5\n"},
    ),
    Kind("keyring_and_labels", "executable = labels\n", {"labels": SHOW_LABELS},
         files={"output.0": "^session keyring: \\d+\n"}),
    script("session", SHOW_SESSION, files={"output.0": "^1 1 0 -1 1\n$"}),
    program("descriptors", "/bin/ls", "/proc/self/fd", files={"output.0": "^0\n1\n2\n3\n$"}),
    script("identity", "id -u; id -un; id -g; id -gn\n", files={"output.0": "^1001\nalice\n"}),
    script("supplementary_groups", "id -G\nid -Gn\n"),
    script(
        "owners_of_system_files",
        "stat -c '%U %G %u %g %a %n' / /etc/passwd /usr/bin /root /dev/shm\n",
    ),
    script("set_uid_program", "passwd -S; echo $?\n"),
    script(
        "temporary_directories",
        "for d in /tmp /var/tmp /dev/shm; do\n"
        "stat -c '%a %n' $d; echo x >$d/x; ls -A $d; rm $d/x\ndone\necho $TMPDIR $TEMP $TMP\n",
    ),
    script("traces_a_child", "strace -o trace /bin/true; echo $?; tail -n 1 trace\nrm trace\n",
           files={"output.0": "^0\n"}),
    script(
        "sees_its_machine",
        "hostname; uname -srm; nproc; cat /proc/sys/kernel/hostname\nls -d /home/* /sys/fs/cgroup\n"
        "ls -l /dev | sed 's/^\\(.\\).* /\\1 /'\n",
    ),
]

STREAMS = [
    script("standard_input", "cat; wc -c\n", "input = data\n", sources={"data": "1\n2\n\0\n"}),
    script("standard_input_missing", "cat | wc -c\nreadlink /proc/self/fd/0\n"),
    script(
        "streamed_output",
        "echo one; sleep 1; echo two; echo three >&2\n",
        "stream_output = true\nstream_error = true\n",
        files={"output.0": "^one\ntwo\n$", "error.0": "^three\n$"},
    ),
    # The end of the job loses what the starter has not yet read: so it waits.
    script(
        "streamed_large_output",
        "head -c 300000 /dev/zero | tr '\\0' x; sleep 4\n",
        "stream_output = true\n",
        files={"output.0": "^x{300000}$"},
    ),
    script("output_to_dev_null", "echo lost; echo lost >&2\n", "output = /dev/null\n"),
    script(
        "output_and_error_to_one_file",
        "echo a; echo b >&2; echo c\n",
        "output = both\nerror = both\n",
        files={"both": "^a\nb\nc\n$"},
    ),
    script(
        "closes_its_streams",
        "exec <&- >&-\nsleep 1\necho late >&2\nexec 2>&-\nsleep 1\nexit 4\n",
        ad={**COMPLETED, "ExitCode": 4},
        files={"error.0": "^late\n$"},
    ),
    script(
        "large_output",
        "head -c 5000000 /dev/zero | tr '\\0' y\nhead -c 5000000 /dev/zero >file\n",
        files={"output.0": "^y{5000000}$", "file": "^\0{5000000}$"},
    ),
]

TREE = "mkdir -p tree/sub; echo 1 >tree/one; echo 2 >tree/sub/two; : >tree/empty\n"

FILES = [
    script(
        "transfers_input",
        "cat data tree/leaf; ls -A | grep -v '^[._]'\n",
        "transfer_input_files = data, tree\n",
        sources={"data": "data\n", "tree/leaf": "leaf\n"},
        files={"output.0": "^data\nleaf\n"},
    ),
    script(
        "transfers_output_directory",
        TREE + "echo not wanted >other\n",
        "transfer_output_files = tree\n",
        files={"tree/sub/two": "^2\n$"},
    ),
    script(
        "remaps_output",
        "echo a >a; echo b >b\n",
        'transfer_output_files = a, b\ntransfer_output_remaps = "a=first; b=second"\n',
        files={"first": "^a\n$", "second": "^b\n$"},
    ),
    script(
        "returns_whatever_it_made",
        TREE + "echo x >'a name'; : >.hidden; mkdir .dir; ln -s x link; echo >+x; chmod 755 +x\n",
        files={"a name": "^x\n$"},
    ),
    script("returns_nothing", "echo a >a\n", 'transfer_output_files = ""\n'),
    script(
        "output_missing",
        "echo done\n",
        "transfer_output_files = missing\n",
        end="held",
        ad={"JobStatus": 5, "HoldReasonCode": 12},
    ),
    Kind(
        "without_transfer",
        "executable = job\nshould_transfer_files = NO\nqueue\n",
        {"job": "#!/bin/sh\necho made >made; pwd -P; cat data\n", "data": "data\n"},
        files={"made": "^made\n$", "output.0": "data\n$"},
    ),
    Kind(
        "initial_directory",
        "executable = /bin/sh\narguments = \"-c 'pwd -P; cat data; echo made >../made'\"\n"
        "should_transfer_files = NO\ninitialdir = sub\n"
        "log = ../log\noutput = ../output.0\nerror = ../error.0\n",
        {"sub/data": "data\n"},
        files={"made": "^made\n$", "output.0": "/sub\ndata\n$"},
    ),
    script(
        "makes_a_manifest",
        "echo a >a\n",
        "manifest = true\nmanifest_dir = manifest\n",
        steps=(Step("terminated", "for f in in out; do sort manifest/$f >sorted.$f; done"),),
        files={"sorted.in": r"(?m)^\./job$", "sorted.out": r"(?m)^\./a$"},
        opaque=("manifest/in", "manifest/out"),
    ),
    script(
        "checkpoints_itself",
        "[ -e state ] && { cat state; exit 0; }\necho begun >state; exit 85\n",
        "checkpoint_exit_code = 85\ntransfer_checkpoint_files = state\n",
        files={"output.0": "^begun\n$"},
    ),
]


def notes(signal: str, then: str) -> str:
    """Shell lines: write a signal down when it comes, then do something."""
    return f"trap 'echo {signal} >>\"$PLACE/signals\"; {then}' {signal}\n"


SECOND_RUN = 'if [ -e "$PLACE/mark.ready" ]; then echo second; exit 0; fi\n'
REMOVED = {"JobStatus": 3}

SIGNALS = [
    placed(
        "removed",
        notes("TERM", 'sleep 1; echo slept >>"$PLACE/signals"; exit 0') + WAIT,
        steps=(Step(READY, "condor_rm {id}"),),
        end="aborted",
        ad=REMOVED,
        files={"signals": "^TERM\n"},
    ),
    placed(
        "removed_with_its_own_signal",
        notes("USR2", "exit 0") + notes("TERM", "exit 0") + WAIT,
        "remove_kill_sig = SIGUSR2\n",
        steps=(Step(READY, "condor_rm {id}"),),
        end="aborted",
        ad=REMOVED,
        files={"signals": "^USR2\n$"},
    ),
    # HTCondor 25.14 sends SIGTERM all the same; whichever it sends is what must arrive.
    placed(
        "held_with_its_own_signal",
        notes("USR1", "exit 0") + notes("TERM", "exit 0") + WAIT,
        "hold_kill_sig = SIGUSR1\n",
        steps=(Step(READY, "condor_hold {id}"),),
        end="held",
        ad=held(1, 0),
        files={"signals": "^(USR1|TERM)\n$"},
    ),
    placed(
        "held_and_released",
        SECOND_RUN + notes("TERM", "exit 9") + WAIT,
        steps=(Step(READY, "condor_hold {id}"), Step("held", "condor_release {id}")),
        files={"output.0": "^second\n$", "signals": "^TERM\n$"},
    ),
    placed(
        "vacated_with_its_own_signal",
        SECOND_RUN + notes("INT", "exit 0") + notes("TERM", "exit 0") + WAIT,
        "kill_sig = SIGINT\n",
        steps=(Step(READY, "condor_vacate_job {id}"),),
        files={"output.0": "^second\n$", "signals": "^INT\n$"},
    ),
    placed(
        "vacated_fast",
        SECOND_RUN + notes("TERM", "exit 0") + WAIT,
        steps=(Step(READY, "condor_vacate_job -fast {id}"),),
        files={"output.0": "^second\n$"},
    ),
    placed(
        "vacated_but_ignores_it",
        SECOND_RUN + "trap '' TERM\n" + WAIT,
        "job_max_vacate_time = 2\n",
        steps=(Step(READY, "condor_vacate_job {id}"),),
        files={"output.0": "^second\n$"},
    ),
    placed(
        "vacated_saves_its_files",
        '[ -e saved ] && { cat saved; exit 0; }\n'
        + notes("TERM", "echo saved >saved; exit 0")
        + WAIT,
        "when_to_transfer_output = ON_EXIT_OR_EVICT\n",
        steps=(Step(READY, "condor_vacate_job {id}"),),
        files={"output.0": "^saved\n$"},
    ),
    placed(
        "suspended_and_continued",
        'mkfifo "$PLACE/fifo"; touch "$PLACE/mark.ready"; read line <"$PLACE/fifo"; echo $line\n',
        steps=(
            Step(READY, "condor_suspend {id}"),
            Step("suspended", "condor_continue {id}"),
            Step("unsuspended", "echo went on >fifo"),
        ),
        files={"output.0": "^went on\n$"},
    ),
    placed(
        "talks_to_the_starter",
        "chirp=$(condor_config_val LIBEXEC)/condor_chirp\n"
        "$chirp set_job_attr_delayed ChirpMine '\"my own\"'; echo $?\n"
        "$chirp get_job_attr_delayed ChirpMine\n$chirp ulog 'said by the job'; echo $?\n",
        "want_io_proxy = true\n",
        ad={**COMPLETED, "ChirpMine": "my own"},
    ),
    placed(
        "visited_by_ssh",
        "until [ -e \"$PLACE/mark.go\" ]; do sleep 0.5; done\necho went on\n",
        steps=(
            Step(
                "executing",
                "condor_ssh_to_job -auto-retry {id} 'cat .job.ad | grep ^Cmd; id -u; exit 7' "
                ">visit.out </dev/null; echo $? >visit.code; touch mark.go",
            ),
        ),
        files={"visit.code": "^7\n$", "visit.out": "1001\n$", "output.0": "^went on\n$"},
        needs="ssh",
    ),
]

# Long enough for the job to have begun.
RUNS = "JobStatus == 2 && time() - EnteredCurrentStatus > 15"

POLICY = [
    script("on_exit_hold", "exit 3\n", "on_exit_hold = ExitCode == 3\n"
           'on_exit_hold_reason = "three"\non_exit_hold_subcode = 33\n',
           end="held", ad=held(3, 33)),
    script("periodic_remove", "sleep 600\n", f"periodic_remove = {RUNS}\n",
           end="aborted", ad=REMOVED),
    script("periodic_hold", "sleep 600\n", f"periodic_hold = {RUNS}\n"
           'periodic_hold_reason = "enough"\nperiodic_hold_subcode = 44\n', end="held",
           ad=held(3, 44), volatile="NumHolds.*|NumVacates.*"),
    script("runs_too_long", "sleep 600\n", "allowed_execute_duration = 4\n", end="held",
           ad={"JobStatus": 5, "HoldReasonCode": 47}),
    placed(
        "retries",
        'echo x >>"$PLACE/count"; [ $(wc -l <"$PLACE/count") -ge 2 ] && exit 5\nexit 1\n',
        "max_retries = 3\nsuccess_exit_code = 5\n",
        ad={**COMPLETED, "ExitCode": 5, "NumJobCompletions": 2},
        files={"count": "^x\nx\n$"},
    ),
    script("leave_in_queue", "exit 0\n", "leave_in_queue = true\n"),
    # HTCondor 25.14 runs it all the same.
    script("noop_job", "exit 1\n", "noop_job = true\nnoop_job_exit_code = 6\n",
           ad={"JobStatus": 4, "IsNoopJob": True}),
    script("pre_and_post_command", "cat pre; echo job\n",
           '+PreCmd = "helper"\n+PreArguments = "before"\n+PostCmd = "helper"\n'
           '+PostArguments = "after"\ntransfer_input_files = helper\n',
           sources={"helper": '#!/bin/sh\necho "$1" >>pre\n'}, files={"pre": "^before\nafter\n$"}),
]

UNIVERSE_JOB = {
    "job": "#!/bin/sh\npwd -P; umask; id -un; grep ^Sig[BIC] /proc/self/status; exit 6\n"
}
NODE = "executable = /bin/sh\narguments = \"-c 'echo $(JOB) >made.$(JOB)'\"\nlog = nodes\nqueue\n"

UNIVERSES = [
    Kind("local_universe", "universe = local\nexecutable = job\n", UNIVERSE_JOB,
         ad={**COMPLETED, "ExitCode": 6}),
    Kind("scheduler_universe", "universe = scheduler\nexecutable = job\n", UNIVERSE_JOB,
         ad={**COMPLETED, "ExitCode": 6}),
    Kind(
        "dagman",
        "universe = scheduler\nexecutable = /usr/bin/condor_dagman\n"
        "getenv = PATH,HOME,USER\nremove_kill_sig = SIGUSR1\nMy.IsDaemonCore = True\n"
        'arguments = "-f -l . -Lockfile lock -Dag two.dag -AllowVersionMismatch '
        '-Dagman /usr/bin/condor_dagman -AutoRescue 0"\n'
        'environment = "_CONDOR_DAGMAN_LOG=two.dag.dagman.out"\n',
        {"two.dag": "JOB A node.sub\nJOB B node.sub\nPARENT A CHILD B\n", "node.sub": NODE},
        files={"made.A": "^A\n$", "made.B": "^B\n$"},
        opaque=("two.dag.*", "nodes"),
    ),
]

# DAGMan takes longest; those that are waited on come when the slots are free for them.
KINDS: list[Kind] = [
    *UNIVERSES, *ENDINGS, *COMMAND, *PROCESS, *STREAMS, *FILES, *POLICY, *SIGNALS
]

NOT_EXECUTED = "the prepare hook refuses the job before it is started, in the starter's words"
BYTE_COUNTS = r"Bytes(Sent|Recvd)|Bytes (Sent|Received)|TransferOutputStats"
SESSION_KEYRING = rf"session keyring: |{BYTE_COUNTS}"


def not_executed(errno: int, program: str = "prepare_job") -> Difference:
    hook = f"PREPARE_JOB ({program}) failed (reported status {errno:03}): "
    return Difference(
        NOT_EXECUTED,
        (
            (r"(?<=[ \"])(?=Failed to execute )", hook),
            (r"(?<=ReasonCode = )6\b|(?<=Code )6(?= Subcode)", "19"),
            ("FailedToCreateProcess", "HookPrepareJobFailure"),
        ),
        r"^event 001 executing:|^ad: (NumJobStarts|NumVacates\w*PreExecution) = ",
    )


DIFFERENCES: dict[str, Difference] = {
    "missing_executable": not_executed(2),
    "missing_interpreter": not_executed(2),
    "text_without_interpreter": not_executed(8),
    "executable_without_the_right": not_executed(13),
    "makes_a_manifest": Difference(
        "the manifest lists what the starter sets because there is a wrapper; the job has it not",
        (
            (
                r"(file manifest/environment: .*_CONDOR_SCRATCH_DIR=(\S+) .*)(?=\\n'$)",
                r"\1 _CONDOR_WRAPPER_ERROR_FILE=\2/.job_wrapper_failure",
            ),
        ),
        BYTE_COUNTS,
    ),
    "keyring_and_labels": Difference(
        "each job has a session keyring of its own, with a number of its own", (), SESSION_KEYRING
    ),
    "suspended_and_continued": Difference(
        "HTCondor counts the wrapper and the job's init among the processes that it suspends",
        (),
        r"actually suspended: \d+$",  # 3 and, before 24.8, 0 for one that it can see
    ),
}

# What ledged's launcher is there for: without it the job is in a user namespace.
DIFFERENCES_ALONE: dict[str, Difference] = {
    **DIFFERENCES,
    "missing_executable": not_executed(2, "prepare_job_alone"),
    "missing_interpreter": not_executed(2, "prepare_job_alone"),
    "text_without_interpreter": not_executed(8, "prepare_job_alone"),
    "executable_without_the_right": not_executed(13, "prepare_job_alone"),
    "keyring_and_labels": Difference(
        "likewise; whoever maps no group but its own into a user namespace gives up setgroups(2)",
        (("setgroups allow", "setgroups deny"),),
        SESSION_KEYRING,
    ),
    "supplementary_groups": Difference(
        "in a user namespace the job's supplementary groups have no number and no name",
        (("'1001 1100", "'1001 65534"), ("'alice physics", "'alice nogroup")),
        BYTE_COUNTS,
    ),
    "owners_of_system_files": Difference(
        "in a user namespace everybody else's files show as nobody's",
        (
            ("root root 0 0 1777 /dev/shm", "alice alice 1001 1001 1777 /dev/shm"),
            ("root root 0 0", "nobody nogroup 65534 65534"),
        ),
        BYTE_COUNTS,
    ),
    "set_uid_program": Difference(
        "in a user namespace set-uid programs gain nothing: passwd may not read /etc/shadow",
        (("'alice L .*'", r"'alice P\\n'"),),
        BYTE_COUNTS,
    ),
}
