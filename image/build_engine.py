"""build_engine.py ROOT OUTPUT: compile the engine's modules.

ROOT holds ``appliance/``; OUTPUT is filled anew with an extension module for each of
``appliance.engine.MODULES`` and with what they were made of. Needs Cython 3, a C compiler and the headers of
the Python that runs this, which is the one that the result is for.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path


def build(root: Path, output: Path) -> None:
    """Compile in a copy, so that nothing is left beside the sources; OUTPUT changes only at the end."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    sys.path.insert(0, str(root))
    from appliance import engine

    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "copy"
        made = Path(name) / "made"
        for package in ("", "session", "proxy", "dns64", "protocol", "protocol/http1"):
            (copy / "appliance" / package).mkdir(parents=True)
            (copy / "appliance" / package / "__init__.py").touch()
        extensions = []
        for module in engine.MODULES:
            source, header = engine.sources_of(module)
            for file in (source, header):
                shutil.copy(root / "appliance" / file, copy / "appliance" / file)
            extensions.append(Extension(f"appliance.{module}", [str(copy / "appliance" / source)]))
        for extension in extensions:
            extension.extra_compile_args = ["-O2", "-g0", "-Wno-unused-function"]
        modules = cythonize(
            extensions,
            include_path=[str(copy)],
            quiet=True,
            compiler_directives={
                "language_level": 3,
                "annotation_typing": False,  # the .pxd files alone say what has a C type
                "binding": False,
            },
        )
        distribution = Distribution({"name": "isthmus-engine", "ext_modules": modules})
        command = distribution.get_command_obj("build_ext")
        command.parallel = True
        command.build_lib, command.build_temp = str(made), str(Path(name) / "objects")
        distribution.run_command("build_ext")
        built = made / "appliance"
        (built / engine.SOURCES).write_text(json.dumps(engine.fingerprints(), indent=1) + "\n")
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(built, output)


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
