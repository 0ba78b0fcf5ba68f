"""
A llama-server stand-in for machines without one: the same flags, on the xllamacpp library.

    python -m modeld.embedded -m MODEL.gguf --host /run/user/1000/x.sock

It runs as a process of its own, also by path, so it imports nothing of modeld, and as little
else as it can: its start is what a person waits for.  `--help` has the shape of llama-server's,
so that one parser reads both.  What would download, run tools or make it a router does not
exist here, and `LLAMA_ARG_*` is not read.

Exit status: 0 when it was asked to end (SIGTERM, SIGINT, the exit line or the end of stdin), 1
for a bad argument or a model that does not load, 69 without xllamacpp.  The line and the end of
stdin count only with LLAMA_SERVER_ROUTER_PORT in the environment, as in llama-server.
"""

import os
import signal
import sys

TYPE_CHECKING = False  # typing itself would cost 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType, ModuleType

    Convert = Callable[[ModuleType, str], object]

EXIT_FAILED = 1
EXIT_NO_ENGINE = 69
EXIT_LINE = b"\ncmd_router_to_child:exit\n"
ROUTER_VARIABLE = "LLAMA_SERVER_ROUTER_PORT"
HELP_COLUMN = 40
HELP_WIDTH = 70

# names and value as `--help` prints them | kind of value | fields of CommonParams | help
# A name that begins with `-n` or `--no-` turns a switch off; `!` in front of a field turns the
# meaning around.
OPTIONS = """
----- common params -----
-h, --help, --usage | switch | help | print this and exit
--version | switch | version | print the version and exit
-t, --threads N | integer | cpuparams.n_threads | CPU threads for generation
-tb, --threads-batch N | integer | cpuparams_batch.n_threads | CPU threads for prompts
-c, --ctx-size N | integer | n_ctx | context in tokens (default: 0, the model's own)
-n, --predict, --n-predict N | integer | n_predict | longest answer in tokens (default: -1, endless)
-b, --batch-size N | integer | n_batch | logical batch size (default: 2048)
-ub, --ubatch-size N | integer | n_ubatch | physical batch size (default: 512)
-fa, --flash-attn [on|off|auto] | flash | flash_attn_type | flash attention (default: auto)
-kvo, --kv-offload, -nkvo, --no-kv-offload | switch | !no_kv_offload | KV cache on the GPU
-ctk, --cache-type-k TYPE | cache | cache_type_k | f16 (default), q8_0, q4_0, bf16, ...
-ctv, --cache-type-v TYPE | cache | cache_type_v | f16 (default), q8_0, q4_0, bf16, ...
--check-tensors | switch | check_tensors | look for invalid values in tensors (default: false)
-lm, --load-mode MODE | load | load_mode | auto (default), none, mmap, mlock, mmap+mlock, dio
-ot, --override-tensor NAME=BUFFER,... | text | tensor_buft_overrides | where tensors go
-ngl, --gpu-layers, --n-gpu-layers N | layers | n_gpu_layers | layers on the GPU, auto or all
-sm, --split-mode {none,layer,row,tensor} | split | split_mode | how to split over several GPUs
-ts, --tensor-split N0,N1,... | shares | tensor_split | share of each GPU
-mg, --main-gpu INDEX | integer | main_gpu | GPU to use without a split (default: 0)
-fit, --fit [on|off] | on-off | fit_params | fit unset arguments into device memory (default: on)
--lora FNAME | adapters | lora_adapters | LoRA adapters, comma-separated
-m, --model FNAME | text | model.path | the GGUF to serve
-v, --verbose, --log-verbose | loud | verbosity | log everything
-lv, --verbosity, --log-verbosity N | integer | verbosity | 1 error, 2 warning, 3 info, 5 debug
----- sampling params -----
--samplers SAMPLERS | text | sampling.samplers | samplers in order, separated by ';'
-s, --seed SEED | seed | sampling.seed | seed of the random numbers (default: -1, random)
--temp, --temperature N | real | sampling.temp | temperature (default: 0.80)
--top-k N | integer | sampling.top_k | top-k sampling (default: 40)
--top-p N | real | sampling.top_p | top-p sampling (default: 0.95)
--min-p N | real | sampling.min_p | min-p sampling (default: 0.05)
--repeat-last-n N | integer | sampling.penalty_last_n | tokens that penalties look back
--repeat-penalty N | real | sampling.penalty_repeat | penalty for repetition (default: 1.00)
--presence-penalty N | real | sampling.penalty_present | penalty for presence (default: 0.00)
--frequency-penalty N | real | sampling.penalty_freq | penalty for frequency (default: 0.00)
--dry-multiplier N | real | sampling.dry_multiplier | DRY multiplier (default: 0.00)
--dry-base N | real | sampling.dry_base | DRY base (default: 1.75)
--dry-allowed-length N | integer | sampling.dry_allowed_length | DRY allowed length (default: 2)
--dry-penalty-last-n N | integer | sampling.dry_penalty_last_n | tokens that DRY looks back
----- example-specific params -----
-cram, --cache-ram N | integer | cache_ram_mib | prompt cache in MiB (default: 8192)
-kvu, --kv-unified, -no-kvu, --no-kv-unified | switch | kv_unified | one KV cache for all slots
--context-shift, --no-context-shift | switch | ctx_shift | shift the context when it is full
--warmup, --no-warmup | switch | warmup | run once, empty, after loading (default: enabled)
--pooling {none,mean,cls,last,rank} | pooling | pooling_type | pooling of embeddings
-np, --parallel N | integer | n_parallel | requests at a time (default: -1, auto)
-cb, --cont-batching, -nocb, --no-cont-batching | switch | cont_batching | continuous batching
-mm, --mmproj FILE | text | mmproj.path | multimodal projector
--mmproj-offload, --no-mmproj-offload | switch | mmproj_use_gpu | projector on the GPU
-a, --alias STRING | names | model_alias | names of the model in answers, comma-separated
--host HOST | list | hostnames | addresses, comma-separated; a UNIX socket where it ends in .sock
--port PORT | integer | port | TCP port (default: 8080)
--ui, --webui, --no-ui, --no-webui | switch | ui | serve the web interface (default: enabled)
--embedding, --embeddings | switch | embedding | serve embeddings only
--api-key KEY | list | api_keys | keys that clients must send, comma-separated
--chat-template-kwargs STRING | mapping | default_template_kwargs | for the template, in JSON
-to, --timeout N | integer | timeout_read timeout_write | timeout in seconds (default: 3600)
--threads-http N | integer | n_threads_http | threads for HTTP (default: -1, auto)
--cache-prompt, --no-cache-prompt | switch | cache_prompt | reuse prompts (default: enabled)
--cache-reuse N | integer | n_cache_reuse | smallest chunk to reuse by shifting (default: 0)
--metrics | switch | endpoint_metrics | serve GET /metrics (default: enabled)
--props | switch | endpoint_props | allow POST /props
--slots, --no-slots | switch | endpoint_slots | serve GET /slots (default: enabled)
--jinja, --no-jinja | switch | use_jinja | chat templates by jinja (default: enabled)
--reasoning-format FORMAT | reasoning | reasoning_format | none, auto, deepseek or deepseek-legacy
-rea, --reasoning [on|off|auto] | tristate | enable_reasoning | let the model think (default: auto)
--reasoning-budget N | integer | sampling.reasoning_budget_tokens | longest thinking in tokens
--chat-template JINJA_TEMPLATE | text | chat_template | template, or the name of a built-in one
--chat-template-file FILE | file | chat_template | file of the chat template
"""


class BadArgumentError(Exception):
    """An argument that llama-server would refuse too; the text is the whole complaint."""


class Option:
    """One row of the table."""

    def __init__(self, row: str) -> None:
        shown, self.kind, fields, self.help = (part.strip() for part in row.split(" | ", 3))
        *names, last = shown.split()
        self.value = "" if last.startswith("-") else last
        self.names = [name.rstrip(",") for name in (names if self.value else [*names, last])]
        self.fields = fields.split()

    def store(self, engine: "ModuleType", params: object, name: str, word: str) -> None:
        """Set the fields to what `word` means; for a switch, to what `name` says."""
        value = KINDS[self.kind](engine, word if self.value else name)
        for field in self.fields:
            *owners, last = field.removeprefix("!").split(".")
            owner = params
            for attribute in owners:
                owner = getattr(owner, attribute)
            setattr(owner, last, not value if field.startswith("!") else value)


# --- what a value may be --------------------------------------------------------------------


def _is_on(_engine: "ModuleType", name: str) -> bool:
    return not name.startswith(("-n", "--no-"))


def _list(_engine: "ModuleType", word: str) -> list[str]:
    return [part.strip() for part in word.split(",") if part.strip()]


def _file(_engine: "ModuleType", word: str) -> str:
    with open(word, encoding="utf-8") as file:  # noqa: PTH123 -- pathlib would cost 4 ms
        return file.read()


def _mapping(_engine: "ModuleType", word: str) -> dict[str, str]:
    import json  # noqa: PLC0415 -- rarely needed, and not free

    return {key: json.dumps(value) for key, value in dict(json.loads(word)).items()}


def _shares(engine: "ModuleType", word: str) -> list[float]:
    shares = [float(share) for share in word.replace("/", ",").split(",")]
    devices = len(engine.CommonParams().tensor_split)  # the engine takes no other length
    return (shares + [0.0] * devices)[:devices]


def _member(enum: str, prefix: str, words: str) -> "Convert":
    """Return a reader of one of `words`; `word=NAME` where the engine's name is another one."""
    members = {}
    for word in words.split():
        spelling, _, member = word.partition("=")
        members[spelling] = prefix + (member or spelling.upper())
    return lambda engine, word: getattr(getattr(engine, enum), members[word])


KINDS: "dict[str, Convert]" = {
    "switch": _is_on,
    "integer": lambda _engine, word: int(word),
    "real": lambda _engine, word: float(word),
    "text": lambda _engine, word: word,
    "list": _list,
    "names": lambda engine, word: set(_list(engine, word)),
    "file": _file,
    "mapping": _mapping,
    "shares": _shares,
    "adapters": lambda engine, word: [
        engine.CommonAdapterLoraInfo(path, 1.0) for path in _list(engine, word)
    ],
    "seed": lambda _engine, word: int(word) % 2**32,  # -1 is the engine's word for a random one
    "loud": lambda _engine, _word: 2**31 - 1,
    "layers": lambda _engine, word: {"auto": -1, "all": -2}[word] if word.isalpha() else int(word),
    "tristate": lambda _engine, word: {"on": 1, "off": 0, "auto": -1}[word],
    "on-off": lambda _engine, word: {"on": True, "off": False}[word],
    "flash": _member(
        "llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_", "on=ENABLED off=DISABLED auto"
    ),
    "cache": _member("ggml_type", "GGML_TYPE_", "f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1"),
    "load": _member(
        "llama_load_mode",
        "LLAMA_LOAD_MODE_",
        "auto none mmap mlock mmap+mlock=MMAP_MLOCK dio=DIRECT_IO",
    ),
    "split": _member("llama_split_mode", "LLAMA_SPLIT_MODE_", "none layer row tensor"),
    "pooling": _member("llama_pooling_type", "LLAMA_POOLING_TYPE_", "none mean cls last rank"),
    "reasoning": _member(
        "common_reasoning_format",
        "COMMON_REASONING_FORMAT_",
        "none auto deepseek deepseek-legacy=DEEPSEEK_LEGACY",
    ),
}


# --- the command line -----------------------------------------------------------------------


def parse(words: "Sequence[str]") -> list[tuple[Option, str, str]]:
    """
    Return each option that `words` name, with the name that was used and its value.

    Raises:
        BadArgumentError: An unknown option, or one without its value.
    """
    rows = [Option(row) for row in OPTIONS.splitlines() if " | " in row]
    known = {name: option for option in rows for name in option.names}
    chosen = []
    rest = iter(words)
    for name in rest:
        # llama-server takes either in long names
        option = known.get(name.replace("_", "-") if name.startswith("--") else name)
        if option is None:
            raise BadArgumentError(f"error: invalid argument: {name}")
        word = next(rest, None) if option.value else ""
        if word is None:
            raise BadArgumentError(_bad_value(option, name, "expected value for argument"))
        chosen.append((option, name, word))
    return chosen


def _bad_value(option: Option, name: str, reason: str) -> str:
    return (
        f'error while handling argument "{name}": {reason}\n\n'
        f"usage:\n{_help_row(option)}\n\nto show complete usage, run with -h"
    )


def _help_row(option: Option) -> str:
    import textwrap  # noqa: PLC0415 -- only for people who ask

    first, *others = option.names
    shown = ", ".join((f"{first},".ljust(6) + " " + others[0], *others[1:]) if others else [first])
    shown = f"{shown} {option.value}".rstrip()
    lines = textwrap.wrap(option.help, HELP_WIDTH)
    if len(shown) < HELP_COLUMN:
        shown = shown.ljust(HELP_COLUMN) + lines.pop(0)
    return "\n".join([shown, *(" " * HELP_COLUMN + line for line in lines)])


def help_text() -> str:
    """Return what `--help` prints: llama-server's layout, these options."""
    rows = OPTIONS.strip().splitlines()
    return "\n".join(
        _help_row(Option(row)) if " | " in row else f"\n\n{row}\n" for row in rows
    ).strip()


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415 -- only for people who ask

    release = version("xllamacpp")  # its last part is llama.cpp's build number
    return f"version: {release} (build {release.rpartition('.')[2]}, xllamacpp)"


# --- the engine -----------------------------------------------------------------------------


def load_engine() -> "ModuleType":
    """
    Return xllamacpp's extension module.

    Without the package's own `__init__`, which takes another 10 ms for an estimator that has no
    use here.

    Raises:
        ImportError: It is not installed, or not for this machine.
    """
    import importlib.util  # noqa: PLC0415 -- `--help` needs no engine

    spec = importlib.util.find_spec("xllamacpp")
    if spec is None:
        raise ImportError("No module named 'xllamacpp'")
    sys.modules["xllamacpp"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("xllamacpp.xllamacpp")


def make_params(engine: "ModuleType", chosen: "Sequence[tuple[Option, str, str]]") -> object:
    """
    Return the engine's parameters for the chosen options, over llama-server's defaults.

    Raises:
        BadArgumentError: A value that an option does not take, or no model.
    """
    params = engine.CommonParams()
    params.port = 8080
    params.n_parallel = -1
    params.endpoint_metrics = True  # for `serve`
    for option, name, word in chosen:
        try:
            option.store(engine, params, name, word)
        except (ValueError, KeyError, TypeError, OverflowError, OSError) as error:
            reason = str(error) if isinstance(error, OSError) else f"invalid value: {word}"
            raise BadArgumentError(_bad_value(option, name, reason)) from error
    if not params.model.path:
        raise BadArgumentError("error: no model given: -m FNAME is required")
    return params


class _Stopped(BaseException):
    """A signal asked to end."""


def _ignore_signals() -> None:
    # Also for the interpreter's own end, which would give them back their deadly meaning.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stop(_number: int, _frame: "FrameType | None") -> None:
    _ignore_signals()
    raise _Stopped


def _wait_for_the_end(commands: int | None) -> None:
    """Return at the exit line, at the end of stdin, or at a signal; signals then mean nothing."""
    try:
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGINT, _stop)
        while commands is None:
            signal.pause()
        received = pending = b"\n"
        while received and EXIT_LINE not in pending:
            received = os.read(commands, 4096)
            pending = pending[-len(EXIT_LINE) :] + received
        _ignore_signals()
    except _Stopped:
        pass


def serve(engine: "ModuleType", params: object) -> None:
    """
    Load the model and serve it until somebody asks for the end.

    The engine reads commands from stdin, ends its threads at the exit line, and leaves the
    process standing.  So the real stdin is read here, and the engine gets a pipe that passes
    the line on when the end has come, from wherever it was asked for.  A signal during the load
    ends the process at once, as it does llama-server.

    Raises:
        RuntimeError: The model does not load, or an address is taken; the log says why.
    """
    commands = passed_on = None
    if ROUTER_VARIABLE in os.environ:
        commands = os.dup(0)
        reader, passed_on = os.pipe()
        os.dup2(reader, 0)
    server = engine.Server(params)
    server.handle_metrics()  # answered by its main loop: before that runs, an end would be lost
    _wait_for_the_end(commands)
    if passed_on is not None:
        os.write(passed_on, EXIT_LINE)
    del server  # joins its threads


def main() -> int:
    """Run as the arguments say and return the exit status."""
    words = sys.argv[1:]
    if {"-h", "--help", "--usage"} & set(words):
        print(help_text())
        return 0
    try:
        if "--version" in words:
            print(_version(), file=sys.stderr)
            return 0
        chosen = parse(words)
        engine = load_engine()
        serve(engine, make_params(engine, chosen))
    except ImportError as error:
        print(
            f"modeld.embedded: the engine is missing: pip install 'modeld[engine]' ({error})",
            file=sys.stderr,
        )
        return EXIT_NO_ENGINE
    except BadArgumentError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except RuntimeError as error:
        print(f"modeld.embedded: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
