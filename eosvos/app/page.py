"""The page: its widgets, which handler answers to which, and the server."""

import os
from pathlib import Path
from typing import Any

import gradio as gr

from eosvos.app.handlers import Handlers, brush
from eosvos.app.sessions import Sessions
from eosvos.config.app import App
from eosvos.data.container import VIDEO_SUFFIXES
from eosvos.errors import UserError

CSS = """
.run progress { width: 100%; height: 0.8em; accent-color: var(--color-accent); }
.run img { width: 100%; margin-top: 0.5em; border-radius: var(--radius-lg); }
"""
HINT = "Choose a colour for each object, paint it whole in one frame, and run."


def page(sessions: Sessions) -> gr.Blocks:
    """The page, whose tabs each have a session."""
    handlers, finetune = Handlers(sessions), sessions.predictor.finetune
    with gr.Blocks(title="eosvos", analytics_enabled=False, fill_width=True) as blocks:
        shown = gr.Number(0, visible=False)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                file = gr.File(label="Video", file_types=sorted(VIDEO_SUFFIXES), height=130)
                said = gr.Markdown(HINT)
                masks = gr.File(
                    label="Masks of this frame (PNG), instead of drawing",
                    file_types=[".png"],
                    file_count="multiple",
                    height=130,
                )
                steps = gr.Slider(
                    0, max(100, finetune.steps), finetune.steps, step=1, label="Steps of fine-tuning"
                )
                online = gr.Checkbox(bool(finetune.online.every), label="Adapt to the video while it goes by")
                with gr.Row():
                    run = gr.Button("Run", variant="primary")
                    stop = gr.Button("Stop", variant="stop")
                with gr.Row():
                    zipped = gr.DownloadButton("Masks (zip)", interactive=False)
                    overlay = gr.DownloadButton("Overlay (mp4)", interactive=False)
            with gr.Column(scale=2, min_width=380):
                frame = gr.Slider(0, 1, 0, step=1, label="Frame", interactive=False)
                editor = _editor()
            with gr.Column(scale=2, min_width=380):
                view = gr.HTML()
                video = gr.Video(label="Overlay", visible=False, autoplay=True, loop=True)
        drawing = [shown, editor]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        results = [view, video, zipped, overlay]
        file.change(handlers.choose, file, [said, frame, editor, shown, *results], **quiet)
        frame.release(handlers.show, [frame, *drawing], [editor, shown], trigger_mode="always_last", **quiet)
        masks.upload(handlers.upload, [masks, *drawing], editor, **quiet)
        run.click(handlers.run, [steps, online, *drawing], results, concurrency_limit=None, **quiet)
        stop.click(handlers.stop, queue=False, **quiet)
        blocks.unload(handlers.leave)
    return blocks


def _editor() -> gr.ImageEditor:
    """Where masks are drawn: a brush of one colour for each object, on one layer, over the frame."""
    return gr.ImageEditor(
        label="Objects: a colour for each",
        brush=brush(),
        layers=False,
        sources=(),
        transforms=(),
        format="png",
        buttons=["fullscreen"],
        height=480,
    )


def start(settings: App, block: bool = True) -> gr.Blocks:
    """Serve the page; block: until Ctrl-C.

    Raises UserError for a checkpoint that cannot be loaded, and an address that cannot be had.
    """
    output = Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)
    # Of gradio: where it keeps what is uploaded, and that it asks nobody on the internet for anything.
    os.environ.update(GRADIO_TEMP_DIR=str(output.resolve()), GRADIO_ANALYTICS_ENABLED="False")
    blocks = page(Sessions(settings)).queue()
    _reach_without_proxy(settings.host)
    try:
        blocks.launch(
            server_name=settings.host,
            server_port=settings.port,
            max_file_size=settings.max_megabytes * 1_000_000,
            theme=gr.themes.Default(font="sans-serif", font_mono="monospace"),
            css=CSS,
            share=False,
            ssr_mode=False,
            run_history=False,
            footer_links=[],
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise UserError(
            f"host={settings.host} port={settings.port} cannot be served ({error}): choose another port"
        ) from error
    print(f"The page is at {blocks.local_url}, its files in {output}; Ctrl-C ends it", flush=True)
    if block:
        blocks.block_thread()
    return blocks


def _reach_without_proxy(host: str) -> None:
    """Except this machine from the environment's proxy, through which gradio would look for its own page."""
    names = "no_proxy", "NO_PROXY"
    # An IPv6 address has brackets in gradio, and none here.
    direct = [*filter(None, map(os.environ.get, names)), "localhost", "127.0.0.1", host.strip("[]")]
    os.environ.update(dict.fromkeys(names, ",".join(direct)))
