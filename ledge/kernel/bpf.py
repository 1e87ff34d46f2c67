"""bpf(2): thin typed functions for the commands that are needed, under their kernel names.

Each raises OSError with the errno of the call. Source: bpf(2), linux/bpf.h (union bpf_attr).
"""

from __future__ import annotations

import ctypes
import os
import struct
from errno import EAGAIN

from ledge.kernel import syscalls

# enum bpf_cmd
_MAP_CREATE = 0
_MAP_LOOKUP_ELEM = 1
_MAP_UPDATE_ELEM = 2
_PROG_LOAD = 5
_OBJ_PIN = 6
_OBJ_GET = 7
_PROG_ATTACH = 8
_PROG_DETACH = 9
_PROG_GET_FD_BY_ID = 13
_OBJ_GET_INFO_BY_FD = 15
_PROG_QUERY = 16

MAP_TYPE_CGROUP_STORAGE = 19
PROG_TYPE_CGROUP_SKB = 8
CGROUP_INET_INGRESS = 0  # enum bpf_attach_type
CGROUP_INET_EGRESS = 1
FUNC_GET_LOCAL_STORAGE = 81  # enum bpf_func_id

_F_ALLOW_MULTI = 1 << 1
_NAME_BYTES = 16  # BPF_OBJ_NAME_LEN, the zero byte at the end included
_LOG_BYTES = 1 << 16
_LOAD_ATTEMPTS = 5
_INFO_BYTES = 80
_NAME_AT = 64  # in struct bpf_prog_info
_MOST_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS


class RejectedProgramError(OSError):
    """The verifier refused a program: `log` has its reasons, the last line being the reason."""

    def __init__(self, error: OSError, log: str) -> None:
        super().__init__(error.errno, error.strerror)
        self.log = log


class MapInfo:
    """What a map is: type, sizes of a key and a value in bytes."""

    __slots__ = ("type", "key_size", "value_size")

    def __init__(self, type_: int, key_size: int, value_size: int) -> None:
        self.type = type_
        self.key_size = key_size
        self.value_size = value_size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MapInfo) and self._all() == other._all()

    __hash__ = None  # type: ignore[assignment]  # it is compared, and no more

    def _all(self) -> tuple[int, int, int]:
        return self.type, self.key_size, self.value_size


def map_create(info: MapInfo, name: str) -> int:
    """BPF_MAP_CREATE: a close-on-exec descriptor of a new map without a fixed number of entries."""
    attributes = struct.pack("4IIII", *info._all(), 0, 0, 0, 0) + _name(name)
    return _bpf(_MAP_CREATE, attributes)


def map_lookup_elem(map_fd: int, key: bytes, value_size: int) -> bytes | None:
    """BPF_MAP_LOOKUP_ELEM: the value of a key; None if there is none.

    `value_size` must be the map's: the kernel writes as much as that.
    """
    value = ctypes.create_string_buffer(value_size)
    key_buffer = ctypes.create_string_buffer(key, len(key))
    attributes = struct.pack("=I4xQQQ", map_fd, _address(key_buffer), _address(value), 0)
    try:
        _bpf(_MAP_LOOKUP_ELEM, attributes)
    except FileNotFoundError:
        return None
    return value.raw


def map_update_elem(map_fd: int, key: bytes, value: bytes) -> None:
    """BPF_MAP_UPDATE_ELEM: another value of a key; ENOENT if a group has none."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    buffer = ctypes.create_string_buffer(value, len(value))
    attributes = struct.pack("=I4xQQQ", map_fd, _address(key_buffer), _address(buffer), 0)
    _bpf(_MAP_UPDATE_ELEM, attributes)


def prog_load(type_: int, instructions: bytes, attach_type: int, name: str) -> int:
    """BPF_PROG_LOAD: a close-on-exec descriptor of the program. Raises RejectedProgramError too."""
    try:
        return _load(type_, instructions, attach_type, name, None)
    except OSError as error:
        # The log costs time, and an errno of its own if it is too long: asked for only now.
        log = ctypes.create_string_buffer(_LOG_BYTES)
        try:
            return _load(type_, instructions, attach_type, name, log)
        except OSError:
            text = log.value.decode("ascii", "replace").strip()
            raise (RejectedProgramError(error, text) if text else error) from None


def prog_attach(cgroup_fd: int, prog_fd: int, attach_type: int) -> None:
    """BPF_PROG_ATTACH with BPF_F_ALLOW_MULTI: to a control group, until that is removed.

    Other programs there go on as they did. EINVAL if this one is there already.
    """
    _bpf(_PROG_ATTACH, struct.pack("4I", cgroup_fd, prog_fd, attach_type, _F_ALLOW_MULTI))


def prog_detach(cgroup_fd: int, prog_fd: int, attach_type: int) -> None:
    """BPF_PROG_DETACH. ENOENT if it is not there."""
    _bpf(_PROG_DETACH, struct.pack("4I", cgroup_fd, prog_fd, attach_type, 0))


def progs_attached(cgroup_fd: int, attach_type: int) -> list[int]:
    """BPF_PROG_QUERY: the ids of the programs that are attached to the group itself."""
    ids = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    head = struct.pack("=4I", cgroup_fd, attach_type, 0, 0)
    query = head + struct.pack("=QII", ctypes.addressof(ids), len(ids), 0)
    union = ctypes.create_string_buffer(query, len(query))
    syscalls.bpf(_PROG_QUERY, _address(union), len(union))
    (count,) = struct.unpack_from("=I", union, len(head) + 8)
    return ids[:count]


def prog_get_fd_by_id(id_: int) -> int:
    """BPF_PROG_GET_FD_BY_ID: a close-on-exec descriptor. It needs CAP_SYS_ADMIN."""
    return _bpf(_PROG_GET_FD_BY_ID, struct.pack("3I", id_, 0, 0))


def prog_name(prog_fd: int) -> str:
    """BPF_OBJ_GET_INFO_BY_FD of a program: the name that it was loaded with."""
    return _info(prog_fd)[_NAME_AT:].partition(b"\0")[0].decode("ascii", "replace")


def obj_pin(path: bytes, fd: int) -> None:
    """BPF_OBJ_PIN: give a map or program a name in a file system of type bpf."""
    name = ctypes.create_string_buffer(path)
    _bpf(_OBJ_PIN, struct.pack("=QII", _address(name), fd, 0))


def obj_get(path: bytes) -> int:
    """BPF_OBJ_GET: a close-on-exec descriptor of what is pinned."""
    name = ctypes.create_string_buffer(path)
    return _bpf(_OBJ_GET, struct.pack("=QII", _address(name), 0, 0))


def map_info(map_fd: int) -> MapInfo:
    """BPF_OBJ_GET_INFO_BY_FD of a map."""
    # struct bpf_map_info: type, id, key_size, value_size, max_entries, …
    type_, _, key_size, value_size = struct.unpack_from("4I", _info(map_fd))
    return MapInfo(type_, key_size, value_size)


def _info(fd: int) -> bytes:
    info = ctypes.create_string_buffer(_INFO_BYTES)
    _bpf(_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, len(info), _address(info)))
    return info.raw


def _load(
    type_: int,
    instructions: bytes,
    attach_type: int,
    name: str,
    log: ctypes.Array[ctypes.c_char] | None,
) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    # No helper that is used here is for GPL programs alone.
    license_ = ctypes.create_string_buffer(b"Apache-2.0")
    head = struct.pack("=IIQQ", type_, len(instructions) // 8, _address(code), _address(license_))
    logging = (1, len(log), _address(log)) if log is not None else (0, 0, 0)
    tail = struct.pack("=II", 0, 0) + _name(name) + struct.pack("=II", 0, attach_type)
    for attempt in range(_LOAD_ATTEMPTS):
        try:
            return _bpf(_PROG_LOAD, head + struct.pack("=IIQ", *logging) + tail)
        except OSError as error:
            # A signal was pending; with it still pending the verifier gives up again.
            if error.errno != EAGAIN or attempt == _LOAD_ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def _bpf(command: int, attributes: bytes) -> int:
    union = ctypes.create_string_buffer(attributes, len(attributes))
    return syscalls.bpf(command, _address(union), len(union))


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def _name(name: str) -> bytes:
    return os.fsencode(name)[: _NAME_BYTES - 1].ljust(_NAME_BYTES, b"\0")
