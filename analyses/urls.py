from __future__ import annotations

from django.urls import path

from analyses.views import ask, corpora, documents, run_lists, runs, shares, trajectories, tree, uploads

urlpatterns = [
    path("w/<slug:workspace>/", ask.ask, name="workspace-home"),
    path("w/<slug:workspace>/sample", ask.sample_load, name="sample-load"),
    path("w/<slug:workspace>/runs/", run_lists.run_list, name="run-list"),
    path("w/<slug:workspace>/r/<str:key>/", runs.run_detail, name="run-detail"),
    path("w/<slug:workspace>/r/<str:key>/stop", runs.run_stop, name="run-stop"),
    path("w/<slug:workspace>/r/<str:key>/answer", tree.answer, name="run-answer"),
    path("w/<slug:workspace>/r/<str:key>/share", shares.share_make, name="share-make"),
    path("w/<slug:workspace>/r/<str:key>/share/<int:share_id>/revoke", shares.share_revoke, name="share-revoke"),
    path("w/<slug:workspace>/r/<str:key>/c/<int:call>/cells", tree.call_cells, name="call-cells"),
    path("w/<slug:workspace>/r/<str:key>/c/<int:call>/path", tree.call_path, name="call-path"),
    path("w/<slug:workspace>/r/<str:key>/c/<int:call>/<int:cell>/children", tree.cell_children, name="cell-children"),
    path("w/<slug:workspace>/r/<str:key>/c/<int:call>/<int:cell>/output", tree.cell_output, name="cell-output"),
    path("w/<slug:workspace>/r/<str:key>/export/<str:format>", trajectories.run_export, name="run-export"),
    path("w/<slug:workspace>/runs/import", trajectories.run_import, name="run-import"),
    path("w/<slug:workspace>/corpora/", corpora.corpus_list, name="corpus-list"),
    path("w/<slug:workspace>/corpora/new", uploads.corpus_new, name="corpus-new"),
    path("w/<slug:workspace>/corpora/<str:key>/", corpora.corpus_detail, name="corpus-detail"),
    path("w/<slug:workspace>/corpora/<str:key>/add", uploads.corpus_add, name="corpus-add"),
    path("w/<slug:workspace>/corpora/<str:key>/probe", corpora.corpus_probe, name="corpus-probe"),
    path("w/<slug:workspace>/corpora/<str:key>/rename", corpora.corpus_rename, name="corpus-rename"),
    path("w/<slug:workspace>/corpora/<str:key>/delete", corpora.corpus_delete, name="corpus-delete"),
    path("w/<slug:workspace>/corpora/<str:key>/d/<int:position>/", documents.document_detail, name="document-detail"),
    path(
        "w/<slug:workspace>/corpora/<str:key>/d/<int:position>/original",
        documents.document_original,
        name="document-original",
    ),
    path(
        "w/<slug:workspace>/corpora/<str:key>/d/<int:position>/remove",
        documents.document_remove,
        name="document-remove",
    ),
    path("w/<slug:workspace>/corpora/<str:key>/d/<int:position>/move", documents.document_move, name="document-move"),
    path("w/<slug:workspace>/uploads/<str:upload>/", uploads.upload_detail, name="upload-detail"),
    path("w/<slug:workspace>/uploads/<str:upload>/ledger", uploads.upload_ledger, name="upload-ledger"),
    path("w/<slug:workspace>/uploads/<str:upload>/files", uploads.upload_files, name="upload-files"),
    path("w/<slug:workspace>/uploads/<str:upload>/close", uploads.upload_close, name="upload-close"),
    path("w/<slug:workspace>/uploads/<str:upload>/cancel", uploads.upload_cancel, name="upload-cancel"),
    path("w/<slug:workspace>/uploads/<str:upload>/f/<int:file>/retry", uploads.upload_retry, name="upload-retry"),
    path("s/<str:token>/", shares.share_detail, name="share-detail"),
    path("s/<str:token>/answer", tree.answer, name="share-answer"),
    path("s/<str:token>/c/<int:call>/cells", tree.call_cells, name="share-call-cells"),
    path("s/<str:token>/c/<int:call>/path", tree.call_path, name="share-call-path"),
    path("s/<str:token>/c/<int:call>/<int:cell>/children", tree.cell_children, name="share-children"),
    path("s/<str:token>/c/<int:call>/<int:cell>/output", tree.cell_output, name="share-output"),
]
