"""Digests of the schema in each version, by which a file is known before anything of it is read.

Made by ``python -m scanstore.schema`` from the migrations; do not edit.
"""

# All of a version at once.
WHOLE = {
    0: "590fd6bcb72ebb4260454590da50d6c7",
    1: "35c3f4abfc63906d7ee32369ee41860f",
    2: "036d8d164a9db460b7cef3b02413acdb",
    3: "105f616d51497addf4837ffce2232207",
    4: "a9b87140095a96b93f87709501a88ee3",
    5: "4c8f402bebebdf7a27e8f19b81684cd2",
    6: "10a7f95399bea68e7efe6b449a384416",
    7: "ed270eba4b22e986dc8820aa0bbde17e",
}
# The type of each object, and its digests with the versions that have it, the last one open.
PARTS = {
    "analysis_cache":
    "table fc841b7820c36ed5f5a7795590e1049f:2-",
    "analysis_plans":
    "table b1e3e149b5206387911f9ad5f899225a:5-",
    "analysis_results":
    "table cd50a2285dab3d0fa6e4694d214c0239:7-",
    "analysis_sessions":
    "table 9be175bbb01863b9fe6ca4a6033ad54d:7-",
    "analysis_tasks":
    "table 22a94a42d1a9e9608c8b61e093c9816c:7-",
    "analyzers":
    "table b4a917fb5a77fb4fd78c2cc42a5a21ab:2-",
    "audit_analyses":
    "table 16fcaed9afdb32198dec516044591634:7-",
    "audit_events":
    "table f8f514813c7a04ed0d47c0a4d1850adb:7-",
    "audit_findings":
    "table 509bff23759e03bceac93837c3965150:7-",
    "audit_tasks":
    "table f283038c629587df244b04548fd11ba3:7-",
    "bindings":
    "table 800f22fb99e94754e736d77c62c6e71d:1-",
    "call_counts":
    "table 0d2af4995adae6fe1e3c82937ef7cc31:2-",
    "chunk_facts":
    "table 72e5877f0d1b73250d462258a815b975:1-",
    "chunk_states":
    "table 919d4c10b45bb844dc1aefd02e4c3010:1-1"
    " c3f49355bea9b6539f9054def4e64618:1-1",
    "chunk_work":
    "table 5252853185caae8f17c8941153d95525:2-",
    "configurations":
    "table 34609151819902763fa1783cad24c086:7-",
    "draft_findings":
    "table 918b6088c9210047a012d7986bd47fba:2-",
    "file_uploads":
    "table dee218b153586d79932c9f3de1078f50:7-",
    "file_versions":
    "table 6a0b820fe0781a9d3577e8cd03ad68a1:1-",
    "finding_contents":
    "table 7b3574a66a0d53bed8128f996de041bf:3-",
    "finding_events":
    "table 48dd13f33ac558a7135e9bfae2cba321:3-",
    "finding_search":
    "table 2771b618dc3c98131e44c1b916dd098c:4-",
    "finding_search_config":
    "table efc2bbe4003a15ce44c3fbaa9c2074b3:4-",
    "finding_search_content":
    "table 4fba45cfd783fd61e1bd40a7233e9e8e:4-",
    "finding_search_data":
    "table 7aacb977fba7cabbbcdc4d1e6594d878:4-",
    "finding_search_docsize":
    "table b86077a64b019de3b03492d62608c9e1:4-",
    "finding_search_idx":
    "table 6737280f9fd82e78bf90426d4ff707a0:4-",
    "findings":
    "table d0a8309d7f58cc4ae8e94aabcf353561:2-2"
    " cc196b88e146f960ab6d3f2c609f01f8:2-2"
    " 599ba7ab23af8a1d271a1037312ff39a:3-",
    "import_facts":
    "table f0186758d778c83e9d77a9af39f516e9:1-",
    "import_relations":
    "view 0fa15a5b5bd0e6974c954865abf636b9:1-",
    "ix_analysis_plans_status":
    "index 4d9ba3d617f3ddac12e213eae958dae6:5-",
    "ix_analysis_results_analysis_session_id":
    "index 36aa4110258f51cf395303919620efd4:7-",
    "ix_analysis_results_configuration_id":
    "index f7f1fdc4d4af19abc60554c7b49af3d2:7-",
    "ix_analysis_sessions_status":
    "index dcbf3eea7e01cd4ac6515e15ccbd3cf2:7-",
    "ix_analysis_sessions_user_id":
    "index a64bff367d8ea706ee147f605b130d43:7-",
    "ix_analysis_tasks_analysis_session_id":
    "index 4201a76909694b3ca3b9178000f574d8:7-",
    "ix_analysis_tasks_delayed":
    "index 09b0ecc2ad538b6797286add0b4465cb:7-",
    "ix_analysis_tasks_failed":
    "index a7f93e5d753f22da27bcd59b416be9e1:7-",
    "ix_analysis_tasks_leased":
    "index e77064969794c66122f886cd5517f756:7-",
    "ix_analysis_tasks_ready":
    "index 0a0ff5dae7d82a9623bf1c73f22b3117:7-",
    "ix_analysis_tasks_touched":
    "index 0174643854877f00f23ad24c2731e1ae:7-",
    "ix_audit_analyses_verdict":
    "index 63c3a6234f74ece09cda0b438c8ef06b:7-",
    "ix_audit_events_analysis_id":
    "index e90cd2e5f6453d0feab395c6d6863e1d:7-",
    "ix_audit_events_task_id":
    "index 3bbc6ba8235066c73b41214f5a8f0456:7-",
    "ix_audit_tasks_delayed":
    "index 0ef0c0ed082080309d000b69a5e659e6:7-",
    "ix_audit_tasks_failed":
    "index 213e9ea019f19fdead2aca72c684d4f5:7-",
    "ix_audit_tasks_leased":
    "index 5fef65715001ce98f82e40f835bcf56f:7-",
    "ix_audit_tasks_ready":
    "index 80203acc5c6f1daffc7b1fb49e5bab88:7-",
    "ix_audit_tasks_touched":
    "index b78f342c3523c9e6cbdbd8447226153d:7-",
    "ix_audit_tasks_user_id":
    "index 245e46bf3815383fa20fdbbbe2a58465:7-",
    "ix_bindings_version_id_ordinal":
    "index 2b7a8a0857317ae5e973396797031821:1-",
    "ix_chunk_facts_content_hash":
    "index 9c86a16651c050c34c296bd89967f17e:1-",
    "ix_chunk_work_delayed":
    "index 397337f1fad792539955454f02bc66fb:2-",
    "ix_chunk_work_done":
    "index c353d39e9ab3f002960643dbd213143e:2-",
    "ix_chunk_work_failed":
    "index dc02a08b27368dee6342174288d08a95:2-",
    "ix_chunk_work_leased":
    "index f7dd5ce15dfc6db35e02821df14839b6:2-",
    "ix_chunk_work_ready":
    "index b95923999ea14cdfbc89efc90c522803:2-",
    "ix_chunk_work_scan_file_id":
    "index bc0928270fd6eefd3180e1487a817cc8:2-",
    "ix_chunk_work_touched":
    "index 7f854d43b6fcc64127a09ed0682f41a6:2-",
    "ix_draft_findings_chunk_id":
    "index 11c27ffd7bb06ce7fce420b97ba8ccbf:2-",
    "ix_draft_findings_delayed":
    "index 96d0956ac50e4a89f66ccdb9c2d6b189:2-",
    "ix_draft_findings_done":
    "index 7b0fd7270340b5118225caccfe8a5b9b:2-",
    "ix_draft_findings_failed":
    "index a81c639da91570175c1647a5361552dc:2-",
    "ix_draft_findings_leased":
    "index 289352630ee6d7b084463a603b14a2be:2-",
    "ix_draft_findings_ready":
    "index 3007e8e183b94a3733341fa2fa98ec9d:2-",
    "ix_draft_findings_touched":
    "index 3d179f978b8d7170c522e6911f54eab6:2-",
    "ix_finding_contents_finding_id":
    "index 0b30e7de8d94281a03ab6007df0e03ca:3-",
    "ix_finding_events_finding_id":
    "index dd0c9c94cfcec340d6d630fc78dfe096:3-",
    "ix_finding_events_scan_id":
    "index 01d9bc89185aa786f6b1ef604cb4f793:3-",
    "ix_findings_first_scan_id":
    "index 976ff5ef1095bfb87aab8eb93126bd88:3-",
    "ix_findings_lineage_id_file_path":
    "index 9202e2816674b39c140ee7b0c4093cc8:3-",
    "ix_findings_lineage_id_tool_rule_id":
    "index c3713ebea35a18b95cd556bd0738381c:3-",
    "ix_findings_scan_id":
    "index 1321b9572bc260a20da2a35e914f3539:3-",
    "ix_findings_scan_id_file_path":
    "index 708abd35bbaee8d8a1cf82483fb7ffc1:2-2",
    "ix_import_facts_path_id":
    "index e111bd82d4515cc0862aee16f5b91f80:1-",
    "ix_job_scenes_scene_id":
    "index 0939e4ddd84fb450559254a190a37fc7:5-",
    "ix_jobs_cancelling":
    "index a1a481b0306c955162f7c611384f7541:5-",
    "ix_jobs_completed_at":
    "index 1d76916368e46d648120c8cb860515e7:5-",
    "ix_jobs_delayed":
    "index c5a795a1f120190f34730d23fbf40f15:5-",
    "ix_jobs_exclusive_group":
    "index d83855d05507c8dd7f0a543c480296db:5-",
    "ix_jobs_failed":
    "index 8e8c7c78cfd023a598930f98cf28e87b:5-",
    "ix_jobs_leased":
    "index a2221085216c1008af09f1987ff9decf:5-",
    "ix_jobs_parent_id":
    "index 2df9038eb63f4fe99c1d6a4d7530d96a:5-",
    "ix_jobs_ready":
    "index 884a5204bc726a6375d527e6727dee39:5-",
    "ix_jobs_status":
    "index 7f9557d38d9a2e94ff1b70ba2feaeb9a:5-",
    "ix_jobs_touched":
    "index 8e9552ae9e9a65c3fac904a3008255e1:5-",
    "ix_model_calls_analyzer_id":
    "index 635325f5ecb9b6b4c75bfef88a22d643:2-",
    "ix_model_calls_chunk_id":
    "index 658cfff5d2aeef7f0897059ece8dcf8c:2-",
    "ix_model_calls_draft_id":
    "index ba28b8bb739e29394e505315ecce3778:2-",
    "ix_model_calls_model_config_id":
    "index 2aebd2e792c2f21ba4b27facc2bc4d08:2-",
    "ix_model_calls_scan_id_model_purpose":
    "index 46cc017ec193d330299d7cd3919530b7:2-",
    "ix_model_calls_status":
    "index a5ac1ba726526ddf1b36c94c63d831f6:2-",
    "ix_model_slots_model_config_id":
    "index 5bf2c2cb1896f6e1a7beeb241489afcb:2-",
    "ix_performers_name":
    "index b1031d328f9fa448b38390be7aad9012:5-",
    "ix_plan_changes_finding_id":
    "index cbd60afe8c44da4ebd67f1dbe1b5581b:5-",
    "ix_plan_changes_plan_id_status":
    "index 8516c1eed22e9c37de334b8229b867e5:5-",
    "ix_plan_changes_scene_id":
    "index 5e8ca7c6762b8da6393d27437f0ff158:5-",
    "ix_reference_facts_path_id":
    "index cb890c77d8a1802e216003fb1a85cf42:1-",
    "ix_reference_facts_version_id_from_ordinal":
    "index 8c9f8b283a246487dcec138277916226:1-",
    "ix_reference_facts_version_id_symbol_ordinal":
    "index 46421ab48c4301ef15bb64068cc0e3ac:1-",
    "ix_scan_files_file_path":
    "index a6dff0e70666ac5c84a6fa756939d11f:1-",
    "ix_scan_files_version_id_scan_id":
    "index 98aa936211880065835755a2ec687614:1-",
    "ix_scene_performers_performer_id":
    "index 6365b27616afc5e15840fb869f3ea081:5-",
    "ix_scene_tags_tag_id":
    "index f6dc3336053a25b663ec2c7f884cb487:5-",
    "ix_scenes_studio_id":
    "index 43e6c8d7c73c19b1116f654b958da866:5-",
    "ix_scheduled_tasks_last_job_id":
    "index acd29d43cd3b82219014fe4902a34efe:5-",
    "ix_scheduled_tasks_next_run":
    "index b85d34ed003f037d42aed68e022f8bdb:5-",
    "ix_sightings_content_id":
    "index ca52434b70ef11131b38d9b54e8d1394:3-",
    "ix_sightings_finding_id":
    "index 6b43f1c7d41691ebe1ec61b2ebd6d84d:3-",
    "ix_sightings_run_id":
    "index 14e6ee8d00ba8e0c5d942621723db340:3-",
    "ix_studios_name":
    "index f26dc09bab458b7ed190d3b684103e5d:5-",
    "ix_suppressions_finding_id":
    "index dbb491920deb9f3a4b68e54cd48d1acf:3-",
    "ix_suppressions_lineage_id":
    "index 9dcc9975d02874c50156bc3bacfd3733:3-",
    "ix_symbol_facts_name_id":
    "index 438da4ba0ffed814a1d04245dfc58905:1-",
    "ix_symbol_facts_qualified_name_id":
    "index af7ae8bc803c044afe43e279fe9b7a8a:1-",
    "ix_sync_runs_kind_status":
    "index d7683c20a9da56defd1aab597bd4cd13:5-",
    "ix_tool_runs_digest":
    "index be71d09bba450a877e83caed6b2acc98:3-",
    "ix_verified_findings_delayed":
    "index 43bb838cafec8a221c302b99d916e2e9:2-",
    "ix_verified_findings_done":
    "index fb46cebd7471768e7b45fcf3de64e562:2-",
    "ix_verified_findings_failed":
    "index 67165096e2a7fe72bf95a9eb13654f59:2-",
    "ix_verified_findings_leased":
    "index d9e2b15209ddf7da7e0bf6a85e0c4a0d:2-",
    "ix_verified_findings_ready":
    "index 6da48882be2403973992851dde5fe6be:2-",
    "ix_verified_findings_scan_id":
    "index 5cb33a3b8b75418e318f19d4a1c801a5:2-",
    "ix_verified_findings_touched":
    "index 13eb3c350eae0868f17913fa7fc73cc7:2-",
    "ix_votes_model_config_id":
    "index 3f2dd06692dd0d062777bab52d6050f2:2-",
    "job_scenes":
    "table 093be4378b6251a376335e93e9b23581:5-",
    "jobs":
    "table 1457d1d733daa7cf471f4341324380e8:5-",
    "lineages":
    "table 130a63d20bb292fcdf6d62264a966c4a:1-",
    "migratehistory":
    "table bc36a7eee30a1ffd4813ecb4829f045a:0-",
    "model_calls":
    "table 04c79cced59622e8ee722dabd87a0382:2-",
    "model_configs":
    "table 125edb0c3f19429a2801789f54232dcd:1-",
    "model_slots":
    "table 1499c751ec559c68a3b142ded9b561d7:2-",
    "names":
    "table 857a1515ee99bc521ecaf010bb7e4956:1-",
    "performers":
    "table 286b80d7faf4c72f5add418e2da1e871:5-",
    "plan_changes":
    "table 6d0deb924ebd85d5f59ed49961265105:5-",
    "plan_counts":
    "table 91c4fada699333fb2644935d7b303ec0:5-",
    "reference_facts":
    "table 1db57cbfc39d74b55baff162403378c3:1-",
    "scan_configs":
    "table 065e7dde00984a399b5e9eb28502cc69:1-1"
    " 0aada697c3755d5f8119f07b87542892:2-",
    "scan_file_chunks":
    "view d3075184efa6c6bcfc30be56f118356f:1-1"
    " bb9399daadacfaab45f5798bca2b257c:1-1"
    " 576f4c151b6a2d7a2a30814b8eccefc0:2-",
    "scan_files":
    "table e9d0a815b7f556f2a5540f071f24d0e4:1-",
    "scans":
    "table bb5450753ef0e544ae60cac671d3ddb8:1-1"
    " 563813c5bf49cd3c67dc2a77e448ca7a:2-2"
    " 7ec660e33e7de85e8c7f6bc840221bac:3-",
    "scene_performers":
    "table c637f30ee02420a66529112c8b1a67f3:5-",
    "scene_tags":
    "table f1529472513e029748cd37c802a4a6fc:5-",
    "scenes":
    "table a8962d77d75042e7b9b1b0de5dda95a3:5-",
    "scheduled_tasks":
    "table 53c9920a15efdf1f978fddc0ec05a680:5-",
    "search_changes":
    "table f365967ddd520b2dadb7fff1efff66ce:4-",
    "settings":
    "table f09d5afcce74b39ef26ee0df19a2802f:5-",
    "sightings":
    "table 1cfab18bbb57874f2fb7fd6d4358cacb:3-",
    "studios":
    "table 9436bc27d7c9fbc1b68fc64d544ee20e:5-",
    "suppressions":
    "table 9f5a8d3825e3927b3590accc0a1d000e:3-",
    "symbol_facts":
    "table 508547003cd9fd03d7a1f8130148cda5:1-",
    "symbol_references":
    "view 7bf630ba07c600858f62d0ef71d9c0ee:1-",
    "symbol_search":
    "table 101934c1d5960ddba4a3051baa4d72f3:4-",
    "symbol_search_config":
    "table 8184e7d0d35dd1d9c9fc484d2e0db2c6:4-",
    "symbol_search_content":
    "table 3253afaa8f07ecf648f57094c0bd356a:4-",
    "symbol_search_data":
    "table f5b926fc617bd70ed13b08f87e429298:4-",
    "symbol_search_docsize":
    "table 5e64de93ca26290d5a55b81d95488732:4-",
    "symbol_search_idx":
    "table 50c7fd3ff34b28cefd1df4c34bbf0811:4-",
    "symbols":
    "view bebcdd2ccf40af80686c3744ac79664d:1-",
    "sync_runs":
    "table 452e78c2e6142744ee0f8f486ff0cd5a:5-",
    "tags":
    "table 488971097f3ced8fd3a0fa57a8ec1b1f:5-",
    "tool_runs":
    "table 9fc6b1902f418acd67ff645ca19dbc76:3-",
    "tr_analysis_cache_updated_at":
    "trigger ab105c6fd2d0a8babba32a59e5a8a4d6:2-",
    "tr_analysis_plans_updated_at":
    "trigger 63697302dfecba1b7b42a10b2004dd62:5-",
    "tr_analysis_results_updated_at":
    "trigger 8d10905ad5d13831d41232aa9ff8ece5:7-",
    "tr_analysis_sessions_insert":
    "trigger aa9e36a627b1d9200e6e2e5fea5b0960:7-",
    "tr_analysis_sessions_updated_at":
    "trigger cbfbd85ca00458fa75fc5d229a64c656:7-",
    "tr_analysis_tasks_updated_at":
    "trigger fdac90d3f7cf5de000f3ac5b9a9a8871:7-",
    "tr_audit_analyses_updated_at":
    "trigger 3eeb994995a9869836dbddccf26a09fa:7-",
    "tr_audit_events_delete":
    "trigger 909ff556781ac95dbcd829607f25ff0a:7-",
    "tr_audit_events_insert":
    "trigger 0534a17deb759ee800fc96ba4b12e8a3:7-",
    "tr_audit_events_update":
    "trigger e10c456c492a3a5cdb947a85843f93d1:7-",
    "tr_audit_findings_updated_at":
    "trigger 9ec3032823e5e8568c7c01290a731dff:7-",
    "tr_audit_tasks_id":
    "trigger 19bff11557953eea1329936e6ae03acc:7-",
    "tr_audit_tasks_insert":
    "trigger 7bb7af49b0d9d6dad07453c6d9ba3f8e:7-",
    "tr_audit_tasks_updated_at":
    "trigger e732f07fc6846900ed63fbe0dd85046b:7-",
    "tr_chunk_work_delete":
    "trigger 31d8d70befd2ab68231a8541556bc7a4:2-",
    "tr_chunk_work_insert":
    "trigger e8ef8b969ec1c1a8fe4c2844bc63f9ce:2-",
    "tr_chunk_work_status":
    "trigger 9d3ce6bdfe86cbe5e16b1bfd11b6ea59:2-",
    "tr_configurations_frozen":
    "trigger 26ebff0e416d81e91c0f8faaedd80bf0:7-",
    "tr_configurations_updated_at":
    "trigger edae260b43bf09298eb34ef01da78da6:7-",
    "tr_draft_findings_delete":
    "trigger 1f51a87b464bde9d3ffb53f939c45795:2-",
    "tr_draft_findings_insert":
    "trigger 30f51f0f485ff653560b78b35b0a82c1:2-",
    "tr_draft_findings_status":
    "trigger e2be32c67c27546bd4a8d540fbf8f265:2-",
    "tr_draft_findings_updated_at":
    "trigger 435fd2b846cdd66af6d194799ae8ebac:2-",
    "tr_file_uploads_count_delete":
    "trigger 31e3908eec9dc4e902865d2ef2ff00d3:7-",
    "tr_file_uploads_count_insert":
    "trigger 3c2e071710306c187b71d38b313112d6:7-",
    "tr_file_uploads_count_update":
    "trigger 1039965e0baaa07936638172496e6002:7-",
    "tr_file_uploads_insert":
    "trigger b02f06e0252b7c605f0fd2a1d96606cf:7-",
    "tr_file_uploads_update":
    "trigger f5baac57c6cb806aa1c434212a432daf:7-",
    "tr_file_uploads_updated_at":
    "trigger 2bfd086d98c2475298d915bb9a243263:7-",
    "tr_file_versions_search":
    "trigger 313014b61503a3c7834888ba9f236321:4-",
    "tr_finding_events_search_delete":
    "trigger 32687b330b6f0dff6f44e19cd7105519:4-",
    "tr_finding_events_search_insert":
    "trigger f7917397019ec6e11773414a8683f01a:4-",
    "tr_finding_events_search_update":
    "trigger 87f7f089b914cf66434d6f3646f43ab1:4-",
    "tr_findings_search_delete":
    "trigger 5ab8d68b323025aed6073a40dc6d30be:4-",
    "tr_findings_search_insert":
    "trigger 444b59bfcebb04c29094a3408ba46c5a:4-5",
    "tr_findings_search_update":
    "trigger 5ede76dfe8c339143f08ae58904725e5:4-",
    "tr_findings_updated_at":
    "trigger 74f9f0d91fc172baaac13a42dd9f8387:2-2"
    " 0351df7064be029881b2220c4aee08b6:3-",
    "tr_jobs_parent_id":
    "trigger 085e83cd14f5aa6845838766ae1e3705:5-",
    "tr_jobs_status":
    "trigger 683c37961524998bd028b01de545bbe7:5-",
    "tr_jobs_updated_at":
    "trigger 31b47fedd5a8bfaaaae0454143990c48:5-",
    "tr_lineages_updated_at":
    "trigger 93149de58b254433cf6d16503a57e1ec:1-",
    "tr_model_calls_delete":
    "trigger 19bd1ac00489cca7b354fef9264e71d9:2-",
    "tr_model_calls_insert":
    "trigger b386f5d3924c77577deec9a7e4ea11f6:2-",
    "tr_model_calls_update":
    "trigger f896b1a3a97dba0f30e0059596430b9f:2-",
    "tr_model_configs_updated_at":
    "trigger 0218c63dbc032c1a02004a8dffd764db:1-",
    "tr_performers_updated_at":
    "trigger 9953a2f2514ff2af93c3996a2a8cd0e3:5-",
    "tr_plan_changes_count_delete":
    "trigger 521f927a0e2fa3e212eca00eac94d729:5-",
    "tr_plan_changes_count_insert":
    "trigger a0ecd75416d3fe4f0edff1862d067c99:5-",
    "tr_plan_changes_count_update":
    "trigger 47571fdd12e94d0fd04503b1e63430c3:5-",
    "tr_plan_changes_updated_at":
    "trigger a85d2d2761cb58697c31cfdc2c31fbd8:5-",
    "tr_scan_configs_updated_at":
    "trigger 6aece64534d51c2f8c0b03c217872d03:1-",
    "tr_scan_file_chunks_update":
    "trigger 3b1b9595a9765f05b92c86853da49336:1-1"
    " 4c93a07659f30cce9b0fa95e5daa555c:1-1"
    " 252a3740b103dface3c1f1dac5b8b1b5:2-",
    "tr_scan_files_risk_level":
    "trigger f29b09dc53c7e6ac26768163650809ae:2-",
    "tr_scan_files_updated_at":
    "trigger 8c5815a50fc8f41926faa36c6edbebab:1-",
    "tr_scan_files_version_id":
    "trigger 85958bcae7409383f872a027b4c9195b:2-",
    "tr_scans_updated_at":
    "trigger 87ae1ba14a6b4bf2e74e9eacdcfce7ad:1-",
    "tr_scenes_updated_at":
    "trigger cb948c0c70b918f866aaf35d55ae07da:5-",
    "tr_scheduled_tasks_updated_at":
    "trigger e47b00e5e87935c0ea3693cd1be98738:5-",
    "tr_settings_updated_at":
    "trigger 952b4b82d396e8e5d30a49b86e499985:5-",
    "tr_studios_updated_at":
    "trigger ae8b8fb6dca36483fa7461ef2d22c81f:5-",
    "tr_suppressions_updated_at":
    "trigger fd23c7a34975bc5210524b30aec72f93:3-",
    "tr_symbols_insert":
    "trigger 6706a02931d2a583d154fa7d75384dc0:1-",
    "tr_symbols_search":
    "trigger bae5ebed33e15651f4f050706ec221d3:4-",
    "tr_sync_runs_updated_at":
    "trigger 2e6575f6cb6c670b7f5d21a357ab7dcd:5-",
    "tr_tags_updated_at":
    "trigger ea12c015b8e3cdd1f6a1e2f4dad45ea8:5-",
    "tr_users_updated_at":
    "trigger 0dd4a8b8883e01257ed0e56a174dee4f:7-",
    "tr_verified_findings_delete":
    "trigger c621004b8f696e1dd1ccd4921e8e3d13:2-",
    "tr_verified_findings_insert":
    "trigger fc077f57cae7ce68ed342f33fe0d49ba:2-",
    "tr_verified_findings_status":
    "trigger 329acafb5772f5b59f4aeb626292c4db:2-",
    "tr_verified_findings_updated_at":
    "trigger 23fdadd622d2bb1b5834a19caf38974e:2-",
    "tr_votes_updated_at":
    "trigger 0b74b1a1d5f384952d9bacba18c91953:2-",
    "uq_configurations_is_default":
    "index f88d1d7240f198bc3129f1f070f21447:7-",
    "uq_draft_findings_scan_id_file_path_vulnerability_type_title_key_line_number":
    "index d36b877c27fd603395457221c376d7eb:2-",
    "uq_jobs_unique_key":
    "index 12f82a95c908191d0c9299f088ab6339:5-",
    "uq_plan_changes_plan_id_target_target_key_field_action_proposed_hash":
    "index a87b52da1f57051923a6a1212e33e787:5-",
    "uq_scan_files_scan_id_file_path":
    "index 041e6b4f1abb688d8d23370580542006:1-",
    "uq_sightings_verified_id":
    "index 9d4b195c93e1a05a6e824a7e8addf08d:3-",
    "users":
    "table 7fe05324de78f0e2f55b7630c47d264a:7-",
    "verified_findings":
    "table a5098f68039728e55983c98ff35f078e:2-",
    "votes":
    "table 01513cf27eec68742f8edfb6b516e52c:2-",
    "work_counts":
    "table efba38b6f0717a753fecf4e3665b4e22:2-",
}
