"""`optkit/a/b.py` is tested by `tests/a/test_b.py`, or stands here under the file that tests it."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
MODULES = {
    str(file.relative_to(TESTS.parent / "optkit").with_suffix(""))
    for file in (TESTS.parent / "optkit").rglob("*.py")
    if file.stem not in ("__init__", "__main__", "_version")
}
#: Test file (or folder of tests) → the modules, without a test of their own path, that it goes through.
ELSEWHERE = {
    "benchmarking/test_benchmark.py": "benchmarking/evaluation benchmarking/opened_models benchmarking/run_scenarios benchmarking/self_check benchmarking/injected_slowdown cli/bench",
    "benchmarking/test_gpu.py": "benchmarking/gpu_peaks benchmarking/gpu_warmth runtimes/cuda/state",
    "benchmarking/test_latency.py": "benchmarking/plan benchmarking/timed_process",
    "benchmarking/test_roofline.py": "benchmarking/roofline_worker",
    "benchmarking/test_int8_share.py": "benchmarking/probe",
    "benchmarking/test_stored_answers.py": "core/schema/stored_answers",
    "benchmarking/test_unlabelled.py": "data/built_in",
    "benchmarking/reference": "benchmarking/reference/base benchmarking/reference/worker benchmarking/reference/files",
    "benchmarking/reference/test_tasks.py": "benchmarking/reference/causal_lm benchmarking/reference/cross_encoder benchmarking/reference/declared benchmarking/reference/embeddings benchmarking/reference/image_classification benchmarking/reference/question_answering benchmarking/reference/rerank benchmarking/reference/sentence_model benchmarking/reference/text_classification benchmarking/reference/token_classification benchmarking/reference/windowed",
    "tasks/test_multiple_choice.py": "benchmarking/reference/multiple_choice tasks/choices",
    "tasks/test_zero_shot_classification.py": "benchmarking/reference/zero_shot_classification tasks/candidate_labels tasks/hypotheses",
    "tasks/test_zero_shot_image_classification.py": "benchmarking/reference/two_towers passes/tower_graphs runtimes/onnxruntime_towers runtimes/openvino_towers runtimes/torch_towers runtimes/towers",
    "tasks/test_question_answering.py": "tasks/squad_metrics",
    "report/test_labels.py": "report/scores",
    "tasks/test_object_detection.py": "benchmarking/reference/object_detection tasks/boxes",
    "tasks/test_image_classification.py": "tasks/files tasks/images",
    "tasks/test_semantic_segmentation.py": "benchmarking/reference/semantic_segmentation data/masks",
    "cli/test_cli.py": "cli/answer_printer cli/compress cli/demo cli/distill cli/info cli/parameters cli/passes cli/predict cli/recipe",
    "compression/search/test_search.py": "cli/search compression/search/run",
    "compression/test_compress.py": "compression/accuracy_aware compression/conclusion compression/refusals passes/worker",
    "compression/test_demo.py": "compression/demo_data",
    "compression/test_recipe.py": "benchmarking/gate compression/engines compression/recipe_file compression/recipe_template compression/steps core/schema/recipe",
    "core/test_output.py": "core/locks",
    "data/test_audio.py": "data/class_folders",
    "data/tables/test_read.py": "data/tables/lines data/tables/objects",
    "gpu/test_device.py": "runtimes/cuda/bindings runtimes/cuda/device runtimes/cuda/probe runtimes/cuda/pycuda runtimes/cuda/torch",
    "gpu/test_pass.py": "cli/build compression/build passes/tensorrt runtimes/trt/build runtimes/trt/inspection runtimes/trt/profiles",
    "gpu/test_runtime.py": "runtimes/tensorrt runtimes/trt/execution runtimes/trt/library",
    "gpu/test_serve.py": "runtimes/cuda/buckets",
    "hostile/test_artifacts.py": "core/schema/folder core/schema/graph_files core/schema/manifest core/schema/model_files core/schema/tokenizer",
    "hostile/test_reports.py": "cli/report core/schema/report",
    "models/test_compressed_and_served.py": "passes/experts",
    "models/test_pixels.py": "data/provoking models/processors",
    "models/test_sentence_pieces.py": "core/schema/sentence_pieces",
    "models/test_signing.py": "cli/sign",
    "models/test_tokenization.py": "models/tokenization_worker",
    "models/uneven/test_surgery.py": "models/uneven/absent models/uneven/hidden models/uneven/key models/uneven/layout models/uneven/loading",
    "passes/pruning/test_latency.py": "passes/graph_times passes/pruning/latency_worker",
    "passes/pruning/test_prune.py": "passes/pruning/cost passes/pruning/criteria passes/pruning/fit passes/pruning/layerwise passes/pruning/masks passes/pruning/refit passes/pruning/search passes/pruning/select",
    "passes/pruning/test_width.py": "passes/prune_width",
    "passes/test_cast.py": "passes/half_precision",
    "passes/test_contract.py": "passes/context passes/fields passes/taken passes/graph passes/quantize_dynamic passes/quantize_static passes/serve_onnx_runtime passes/serve_torch",
    "passes/test_distill.py": "passes/distillation/train",
    "passes/test_export_onnx.py": "passes/export_check passes/torch_export",
    "passes/test_fusion.py": "passes/fused_attention",
    "passes/test_open_vino_stateful.py": "passes/stateful_graph runtimes/openvino_stateful",
    "passes/test_open_vino.py": "passes/open_vino_int8",
    "passes/test_quantize.py": "passes/calibration passes/int8_embeddings",
    "passes/test_quantize_tensorrt.py": "passes/attention_pattern passes/finite_attention",
    "passes/test_take_layers.py": "passes/pruning/depth",
    "preprocessing/test_run.py": "cli/preprocess preprocessing/check preprocessing/load preprocessing/report preprocessing/settings preprocessing/transform",
    "preprocessing/test_properties.py": "preprocessing/clean preprocessing/segment preprocessing/split",
    "report/test_charts.py": "report/charts/figures report/charts/lanes report/charts/scatter report/charts/svg report/page",
    "report/test_contract.py": "report/interval report/model report/reading",
    "runtimes/test_speech.py": "models/languages",
    "tasks/test_written_speech.py": "benchmarking/reference/written_speech tasks/speech",
    "runtimes/test_search.py": "passes/seq2seq_graphs runtimes/onnxruntime_seq2seq runtimes/search_settings runtimes/seq2seq runtimes/torch_seq2seq",
    "tasks/test_text2text.py": "benchmarking/reference/text2text tasks/teacher_forcing tasks/text_metrics",
    "runtimes/test_contract.py": "runtimes/base runtimes/settings runtimes/onnxruntime runtimes/torch",
    "models/test_chat.py": "models/chat_worker",
    "serving/http/test_chat.py": "serving/http/openai",
    "serving/http/test_completions.py": "serving/http/generation",
    "serving/http/test_protocol.py": "serving/http/app serving/http/body serving/http/errors serving/http/routes",
    "serving/http/test_batch_queue.py": "serving/http/batcher",
    "serving/http/test_run.py": "cli/serve serving/http/logs serving/http/workers",
    "serving/test_bom.py": "core/version serving/package/bom",
    "serving/test_offline.py": "serving/inputs serving/on_ray serving/outputs",
    "serving/test_package.py": "cli/package serving/package/docker serving/package/requirements serving/package/triton serving/package/triton_backend/model serving/package/zip",
    "serving/test_wheel.py": "serving/package/wheel",
    "tasks/test_causal_lm.py": "passes/causal_graph runtimes/kv_cache runtimes/token_logprobs",
    "tasks/test_audio_classification.py": "benchmarking/reference/audio_classification tasks/sound",
    "tasks/test_automatic_speech_recognition.py": "benchmarking/reference/speech_recognition",
    "tasks/test_contract.py": "models/task tasks/base tasks/labelled",
    "tasks/test_embeddings.py": "models/pooling",
    "tasks/test_layout_token_classification.py": "benchmarking/reference/layout_token_classification",
    "tasks/test_multi_vector_embeddings.py": "benchmarking/reference/multi_vector_embeddings models/token_vectors",
    "tasks/test_sparse_embeddings.py": "benchmarking/reference/sparse_embeddings",
    "tasks/test_text_classification.py": "tasks/label_columns",
    "tasks/test_token_classification.py": "tasks/bio_tags tasks/label_scores tasks/words",
    "test_fidelity.py": "compression/job",
    "training/test_finetune.py": "cli/finetune training/page training/provenance training/worker",
    "training/test_tasks.py": "tasks/trainable",
    "training/test_options.py": "training/trainer/adapters training/trainer/settings training/trainer/setup",
    "training/test_tune.py": "cli/tune",
    "training/tuning/test_page.py": "training/tuning/charts training/tuning/results",
    "training/tuning/test_study.py": "training/tuning/samplers training/tuning/storage",
    "training/tuning/test_worker.py": "training/tuning/lease",
}
LISTED = {module: test for test, modules in ELSEWHERE.items() for module in modules.split()}


def test_every_module_has_a_test_of_its_own_path_or_is_listed():
    """A new module: write tests/a/test_b.py for it, or list it under the file that tests it."""
    own = {
        str(f.relative_to(TESTS).with_name(f.stem.removeprefix("test_"))) for f in TESTS.rglob("test_*.py")
    }
    assert not MODULES - own - set(LISTED)


def test_the_list_names_what_is_there():
    assert set(LISTED) <= MODULES
    assert all((TESTS / test).exists() for test in ELSEWHERE)
